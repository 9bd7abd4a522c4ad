"""`gpuconv validate --cpu` beside PyTorch, in a process of its own: how it ends is part of it."""

from __future__ import annotations

from ..command import process

#: oneDNN's gradients to the weights of some of these damage memory.
RANDOM = ("--random", 500, "--seed", 11)


def test_the_second_opinion_neither_ends_the_process_nor_takes_its_output(torch, tmp_path):
    code = "import sys; sys.modules['cupy'] = None; from gpuconv.__main__ import main; main()"
    done = process("validate", "--cpu", *RANDOM, code=code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "torch" in done.stdout.splitlines()[0]
    assert "of 500 problems, at most" in done.stdout
    assert done.stderr.splitlines()[0] == "gpuconv: --random 500 --seed 11"


def test_pytorch_is_left_as_it_was(torch):
    from gpuconv.report import opinions

    before = torch._C._get_mkldnn_enabled()
    with opinions.own_kernels():
        assert not torch._C._get_mkldnn_enabled()
    assert torch._C._get_mkldnn_enabled() == before
