"""The module in PyTorch's place: alone, and in a residual network."""

from __future__ import annotations

import copy

import pytest

import gpuconv

MODULES = {
    "plain": ((3, 6, 3), {}),
    "strided": ((4, 6, (3, 2)), {"stride": (2, 1), "padding": (1, 0), "bias": False}),
    "dilated": ((4, 6, 3), {"dilation": 2, "padding": 2, "groups": 2}),
    "same": ((4, 4, (4, 3)), {"padding": "same", "groups": 4}),
    "valid": ((2, 3, 3), {"padding": "valid"}),
    "reflect": ((2, 3, 3), {"padding": (2, 1), "padding_mode": "reflect", "stride": 2}),
    "replicate": ((2, 3, 4), {"padding": "same", "padding_mode": "replicate"}),
    "circular": ((2, 3, 3), {"padding": 1, "padding_mode": "circular", "dilation": 2}),
    "float64": ((2, 3, 3), {"padding": 1, "dtype": "float64"}),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # PyTorch's own, of its copy
@pytest.mark.parametrize(("sizes", "options"), MODULES.values(), ids=MODULES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_like_torchs_own(torch, door, sizes, options, channels_last):
    if "dtype" in options:
        options = {**options, "dtype": getattr(torch, options["dtype"])}
    theirs = torch.nn.Conv2d(*sizes, **options)
    ours = door.Conv2d(*sizes, **options)
    ours.load_state_dict(theirs.state_dict())
    for parameters in (theirs.parameters(), ours.parameters()):
        with torch.no_grad():
            for parameter in parameters:
                parameter.mul_(64).round_()  # sums of integers are exact
    x = torch.randint(-4, 5, (2, sizes[0], 9, 8), dtype=theirs.weight.dtype)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    found, wanted = [], []
    for module, results in ((ours, found), (theirs, wanted)):
        given = x.clone().requires_grad_()
        y = module(given)
        (y * torch.arange(y.numel()).reshape(y.shape).remainder(5)).sum().backward()
        results += [y, given.grad, *(parameter.grad for parameter in module.parameters())]
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)
    assert repr(ours) == repr(theirs)


def block(torch):
    nn = torch.nn

    class BasicBlock(nn.Module):
        """As torchvision's ResNet has it, with the projection that a stride needs."""

        def __init__(self, channels, out_channels, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(channels, out_channels, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(out_channels)
            self.relu = nn.ReLU(inplace=True)
            self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(out_channels)
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

        def forward(self, x):
            y = self.relu(self.bn1(self.conv1(x)))
            y = self.bn2(self.conv2(y))
            y += self.downsample(x)
            return self.relu(y)

    return nn.Sequential(nn.Conv2d(3, 8, 7, 2, 3), BasicBlock(8, 8, 1), BasicBlock(8, 12, 2))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("dtype", "within"), [("float64", 1e-12), ("float32", 2e-5)])
def test_residual_blocks_agree(torch, door, dtype, within, channels_last):
    torch.manual_seed(0)
    theirs = block(torch).to(getattr(torch, dtype))
    ours = door.replace(copy.deepcopy(theirs))
    kinds = {type(module) for module in ours.modules()}
    assert door.Conv2d in kinds
    assert torch.nn.Conv2d not in kinds
    x = torch.randn(2, 3, 33, 30, dtype=getattr(torch, dtype))
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    losses = []
    for model in (theirs, ours):
        given = x.clone().requires_grad_()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        steps = []
        for _ in range(2):  # the second after the first one's gradients
            optimiser.zero_grad()
            y = model(given)
            y.square().mean().backward()
            gradients = [parameter.grad.clone() for parameter in model.parameters()]
            steps += [y, given.grad.clone(), *gradients]
            optimiser.step()
        losses.append(steps)
    for one, other in zip(*losses, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=within * float(other.detach().abs().max()))
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def test_replacing_keeps_parameters_hooks_and_modes(torch, door):
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU()).eval()
    parameters, seen = list(model.parameters()), []
    model[0].register_forward_hook(lambda *_: seen.append("hook"))
    assert door.replace(model) is model
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    model(torch.zeros(1, 1, 5, 5))
    assert seen == ["hook"]
    assert not model[0].training
    alone = torch.nn.Conv2d(1, 1, 1)
    assert type(door.replace(alone)) is door.Conv2d
    assert type(copy.deepcopy(alone)) is door.Conv2d


def test_what_is_no_plain_convolution_is_left_alone(torch, door):
    class Doubled(torch.nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    model = door.replace(
        torch.nn.Sequential(
            Doubled(1, 1, 1), torch.nn.LazyConv2d(1, 1), torch.nn.Conv2d(1, 1, 1, dtype=torch.complex64)
        )
    )
    assert type(model[0]) is Doubled
    assert type(model[1]) is torch.nn.LazyConv2d
    assert type(model[2]) is torch.nn.Conv2d
    model[1](torch.zeros(1, 1, 2, 2))
    assert type(door.replace(model)[1]) is door.Conv2d  # it has become a plain one
    doubled = torch.nn.utils.parametrizations.weight_norm(Doubled(1, 1, 1))
    assert not isinstance(door.replace(doubled), door.Conv2d)
    for wrong in (None, torch.zeros(1), torch.nn.Conv2d):
        with pytest.raises(TypeError, match=r"^model must be a torch\.nn\.Module, got"):
            door.replace(wrong)


@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm", "orthogonal"])
def test_parametrised_convolutions(torch, door, name):
    made = torch.nn.utils.parametrizations
    theirs = getattr(made, name)(torch.nn.Conv2d(2, 3, 3))
    shared = copy.deepcopy(theirs)  # of the same class
    ours = copy.deepcopy(theirs)
    state = {key: value.clone() for key, value in ours.state_dict().items()}
    assert door.replace(ours) is ours
    assert isinstance(ours, door.Conv2d)
    assert type(ours).__name__ == "ParametrizedConv2d"
    assert not isinstance(shared, door.Conv2d)
    for key, value in ours.state_dict().items():  # to replace is not to compute
        assert torch.equal(value, state[key])
    x = torch.randn(1, 2, 6, 6)
    found, wanted = ours(x), theirs(x)
    torch.testing.assert_close(found, wanted)
    found.sum().backward()
    wanted.sum().backward()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    assert isinstance(copy.deepcopy(ours), door.Conv2d)
    torch.nn.utils.parametrize.remove_parametrizations(ours, "weight")
    assert type(ours) is door.Conv2d


def test_wrong_modules(torch, door):
    for dtype in (torch.complex64, torch.complex128):
        with pytest.raises(TypeError, match=r"^dtype must be torch\.float16, .*, got torch\.complex"):
            door.Conv2d(1, 1, 1, dtype=dtype)
    module = door.Conv2d(2, 3, 3)
    for shape in ((1, 4, 5, 5), (4, 5, 5), (1, 0, 5, 5)):
        with pytest.raises(ValueError, match=r"^input must have 2 channels, got shape"):
            module(torch.zeros(shape))


@pytest.mark.filterwarnings("ignore:`torch.jit.trace")
def test_traced_models(torch, door):
    """By torch.fx, through modules and functions; what torch.jit would record is refused."""

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(2, 3, 3)

        def forward(self, x):
            y = door.conv_transpose2d(self.conv(x), self.conv.weight)
            return door.fold(door.unfold(y, 2).relu(), (6, 6), 2) + door.conv2d(x, self.conv.weight).sum()

    model = door.replace(Model())
    traced, x = torch.fx.symbolic_trace(model), torch.randn(1, 2, 6, 6)
    assert torch.equal(traced(x), model(x))
    names = {node.target.__name__ for node in traced.graph.nodes if callable(node.target)}
    assert {"convolved", "transposed", "unfolded", "folded"} <= names
    with pytest.raises(RuntimeError, match=r"^torch\.jit\.trace cannot record gpuconv's functions"):
        torch.jit.trace(model, x)


@pytest.mark.filterwarnings("ignore")  # PyTorch's own, of what it deprecates
def test_what_docs_say_is_refused(torch, door):
    model, x = door.replace(torch.nn.Conv2d(2, 3, 3)), torch.randn(1, 2, 6, 6)

    def batched():
        given = x.clone().requires_grad_()
        y = model(given)
        torch.autograd.grad(y, given, torch.ones(2, *y.shape), is_grads_batched=True)

    for call in (
        batched,
        lambda: torch.jit.script(model),
        lambda: torch.export.export(model, (x,)),
        lambda: torch.compile(model, backend="eager", fullgraph=True)(x),
        lambda: torch.vmap(model)(x[None]),
        lambda: torch.func.jvp(model, (x,), (x,)),
        lambda: door.conv2d(x, model.weight, stride=torch.tensor(2)),
        lambda: door.Conv2d(2, 3, 3, device="meta")(x.to("meta")),
    ):
        with pytest.raises(Exception, match=r".") as caught:
            call()
        assert not isinstance(caught.value, AssertionError)

    class Own(torch.Tensor):
        pass

    assert type(door.conv2d(x.as_subclass(Own), model.weight)) is torch.Tensor


def test_weights_travel_to_and_from_the_layer(torch, door, tmp_path):
    theirs = torch.nn.Sequential(torch.nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, groups=2))
    x = torch.randn(2, 4, 8, 7)
    for data_format, order in (("NCHW", (0, 1, 2, 3)), ("NHWC", (0, 2, 3, 1))):
        layer = gpuconv.Conv2D(4, 6, (3, 2), 2, 1, groups=2, data_format=data_format, rng=0)
        layer.load_state_dict(theirs.state_dict(), prefix="0.")
        y = torch.from_numpy(layer(x.permute(order).numpy()))
        torch.testing.assert_close(y, theirs(x).detach().permute(order))
        back = {name: torch.from_numpy(value) for name, value in layer.state_dict("0.").items()}
        theirs.load_state_dict(back)
        for name, value in theirs.state_dict().items():
            assert torch.equal(value, back[name])


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # its compiler's own
def test_compiled_models_run_it_as_it_is(torch, door):
    def functions(x):
        y = door.conv_transpose2d(x.relu(), torch.ones(2, 2, 3, 3))
        return door.fold(door.unfold(y, 2).relu(), y.shape[2:], 2)

    model = door.replace(torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.ReLU()))
    x = torch.randn(1, 2, 6, 6)
    for call in (model, functions):
        given = [x.clone().requires_grad_() for _ in range(2)]
        compiled = torch.compile(call, backend="eager")
        found, wanted = compiled(given[0]), call(given[1])
        assert torch.equal(found, wanted)
        found.sum().backward()
        wanted.sum().backward()
        assert torch.equal(given[0].grad, given[1].grad)
