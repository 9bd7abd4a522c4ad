"""`gpuconv validate`: what it checks, tells and ends with."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from gpuconv.backend import launch
from gpuconv.cli import validate
from gpuconv.errors import CompileError, LaunchError
from gpuconv.kernels.cpu.im2col_gemm import CpuIm2colGemm
from gpuconv.problem import ConvProblem
from gpuconv.report import opinions, shapes, validated
from gpuconv.validate import random_problems, tolerance

from ..command import fails, plain_machine, results, run, usage

SOME = ("fprop_n2c4h8w8k8r3s3p1_nchw_f32", "wgrad_n1c4h8w8k4r3s3p1g4_nhwc_f16")
KERNEL = "cpu_im2col_gemm"


@pytest.fixture(autouse=True)
def _plain_machine(monkeypatch):
    plain_machine(monkeypatch)
    monkeypatch.setattr(opinions.baselines, "installed", lambda name: False)


class Agreeing:
    """A second opinion that is the oracle's, rounded to nothing."""

    name = "other 1.0"

    def __init__(self, change=lambda result: result):
        self.change = change

    def results(self, p, given):
        if p.op == "wgrad":
            raise RuntimeError("has no such call")
        whole = validated.measure.expected(p, given).values
        yield "first", whole
        yield "second", self.change(whole)


@pytest.fixture
def other(monkeypatch):
    def say(opinion):
        monkeypatch.setattr(opinions, "load", lambda device, every: (opinion, []))

    return say


@pytest.fixture
def seeded(monkeypatch):
    """A kernel that is wrong in one element, or raises."""
    right = CpuIm2colGemm.bind

    def seed(wrong):
        def bind(self, p, config, device):
            plan = right(self, p, config, device)

            def run(a, b, out, bias, residual):
                plan.run(a, b, out, bias, residual)
                wrong(out)

            return replace(plan, run=run)

        monkeypatch.setattr(CpuIm2colGemm, "bind", bind)

    return seed


def test_each_problem_given_has_its_rows():
    done = run("validate", "--cpu", *SOME)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith("cpu (")
    assert lines[0].endswith("against float64")
    for text in SOME:
        assert any(line.startswith(text) and KERNEL in line for line in lines)
    assert re.search(r"\n(\d+) of \1 results are within the bound\n", done.stdout)
    assert "PyTorch is not installed" in done.stderr


def test_json_has_every_result(other):
    other(Agreeing())
    found = results(run("validate", "--cpu", "--json", *SOME), "validate")
    assert [one["problem"] for one in found] == list(SOME)
    for one in found:
        assert one["looked_at"] == one["elements"]
        for checked in one["checked"]:
            assert 0 <= checked["error_over_bound"] <= 1
            assert checked["failure"] is None
            assert float.fromhex(checked["got"]) == pytest.approx(float.fromhex(checked["right"]), rel=1e-2)
    assert all(checked["apart"] == checked["error_over_bound"] for checked in found[0]["checked"])
    beside = {"name": "other 1.0", "error_over_bound": 0.0, "way": "first", "ways": 2, "outside": 0}
    assert found[0]["beside"] == {**beside, "reason": None}
    assert found[1]["beside"]["reason"] == "has no such call"


def test_a_seed_is_of_the_numbers_too():
    first, same, other = (
        results(run("validate", "--cpu", "--json", SOME[0], *seed), "validate")
        for seed in ((), ("--seed", 0), ("--seed", 1))
    )
    assert first == same
    assert first[0]["checked"][0]["right"] != other[0]["checked"][0]["right"]


def test_random_problems_repeat_with_their_seed(other):
    other(Agreeing())
    first = run("validate", "--cpu", "--random", 20)
    assert first.exit_code == 0, first.output
    (seed,) = re.findall(r"--random 20 --seed (\d+)", first.stderr)
    second = run("validate", "--cpu", "--random", 20, "--seed", seed)
    assert second.stdout == first.stdout
    assert run("validate", "--cpu", "--random", 20, "--seed", int(seed) ^ 1).stdout != first.stdout
    assert "kernel" in first.stdout
    assert "  not compared, " in first.stdout


def test_five_hundred_random_problems_agree():
    done = run("validate", "--cpu", "--random", 500, "--seed", 11, "--json")
    assert done.exit_code == 0, done.output
    found = results(done, "validate")
    assert len(found) == 500
    assert {checked["kernel"] for one in found for checked in one["checked"]} > {KERNEL, "cpu_padded"}


def test_torch_agrees_where_it_is_installed(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.undo()
    done = run("validate", "--cpu", "--random", 120, "--seed", 3, "--json")
    assert done.exit_code == 0, done.output
    found = [one for one in results(done, "validate") if one["beside"]["reason"] is None]
    assert len(found) > 100
    assert max(one["beside"]["error_over_bound"] for one in found) <= 1
    apart = [each["apart"] for one in found for each in one["checked"] if each["apart"] is not None]
    assert len(apart) > 100
    assert max(apart) <= 2


def test_a_wrong_kernel_is_told_with_all_it_takes_to_find_it(seeded):
    def wrong(out):
        if out.shape == (2, 8, 8, 8):
            out[1, 2, 3, 4] = np.nan

    seeded(wrong)
    done = run("validate", "--cpu", *SOME)
    assert done.exit_code == 4
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("wrong: ")]
    assert re.match(rf"wrong: {SOME[0]} {KERNEL}\(\S+=\S+\): not finite at \(1, 2, 3, 4\), got nan", line)
    assert line.endswith(f"# gpuconv validate '{SOME[0]}' --kernel {KERNEL} --seed 0 --cpu")
    assert "results are wrong; the first: " + SOME[0] in done.stderr
    again = line.partition("# gpuconv ")[2].replace("'", "").split()
    assert run(*again).exit_code == 4
    assert run("validate", "--cpu", SOME[1]).exit_code == 0
    found = results(run("validate", "--cpu", "--json", SOME[0]), "validate")
    (checked,) = [each for each in found[0]["checked"] if each["kernel"] == KERNEL]
    assert (checked["worst"], checked["error_over_bound"]) == ([1, 2, 3, 4], 1e30)
    every = run("validate", "--cpu", "--configs", "all", "--seed", 7, SOME[0])
    assert f"--kernel {KERNEL} --seed 7 --configs all --cpu\n" in every.stdout


def test_a_kernel_that_raises_is_a_row_and_the_next_goes_on(seeded):
    def wrong(out):
        raise ZeroDivisionError("of nothing\nat all")

    seeded(wrong)
    done = run("validate", "--cpu", *SOME)
    assert done.exit_code == 1, done.output
    for text in SOME:
        (line,) = [line for line in done.stdout.splitlines() if re.match(rf"{text} +{KERNEL} ", line)]
        assert line.endswith("failed: ZeroDivisionError: of nothing at all")
        assert f"{text} is left out: {KERNEL}(" in done.stderr
    assert "cpu_fft" in done.stdout
    assert "Traceback" not in done.output


def test_a_kernel_that_writes_to_its_operands_is_told(monkeypatch):
    right = CpuIm2colGemm.bind

    def bind(self, p, config, device):
        plan = right(self, p, config, device)

        def run(a, b, out, bias, residual):
            plan.run(a, b, out, bias, residual)
            b[0] = 0

        return replace(plan, run=run)

    monkeypatch.setattr(CpuIm2colGemm, "bind", bind)
    done = run("validate", "--cpu", *SOME)
    assert done.exit_code == 4
    wrong = [line for line in done.stdout.splitlines() if line.startswith("wrong: ")]
    assert [line.split()[1] for line in wrong] == list(SOME)
    assert all(f" {KERNEL}(" in line and "): writes to its operand b  # gpuconv" in line for line in wrong)


def test_json_says_what_was_asked_and_what_was_left_out(other, monkeypatch):
    other(Agreeing())
    huge = "fprop_n2048c1h1024w1024k1r1s1_nchw_f16"
    done = run("validate", "--cpu", "--json", "--seed", 5, SOME[0], huge)
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert found["device"].startswith("cpu (")
    about = {name: found[name] for name in ("other", "seed", "configs", "asked", "done", "partial")}
    assert about == {
        "other": "other 1.0", "seed": 5, "configs": "default", "asked": 2, "done": 1, "partial": False,
    }  # fmt: skip
    (skipped,) = found["skipped"]
    assert skipped["problem"] == huge
    assert "too large for the host" in skipped["reason"]

    def interrupt(*args, **how):
        raise KeyboardInterrupt

    monkeypatch.setattr(validate, "validate_problem", interrupt)
    done = run("validate", "--cpu", "--json", *SOME)
    assert done.exit_code == 130
    found = json.loads(done.stdout)
    assert (found["partial"], found["asked"], found["done"], found["results"]) == (True, 2, 0, [])


def test_random_problems_are_drawn_as_they_are_needed(monkeypatch):
    drawn = []
    right = random_problems.problems

    def problems(count, seed, **how):
        for p in right(count, seed, **how):
            drawn.append(p)
            yield p

    def interrupt(*args, **how):
        raise KeyboardInterrupt

    monkeypatch.setattr(random_problems, "problems", problems)
    monkeypatch.setattr(validate, "validate_problem", interrupt)
    assert run("validate", "--cpu", "--random", 1_000_000).exit_code == 130
    assert len(drawn) == 1
    usage(run("validate", "--cpu", "--random", 1_000_001), "1<=x<=1000000")


def test_another_library_that_is_wrong_is_told_but_no_failure(other):
    other(Agreeing(lambda result: result + 1))
    done = run("validate", "--cpu", SOME[0])
    assert done.exit_code == 0
    assert re.search(rf"\n  outside the bound, \S+: {SOME[0]} second 1 of 2\n", done.stdout)


def test_a_device_that_refuses_a_kernel_is_a_failure(monkeypatch):
    def bind(self, p, config, device):
        raise CompileError("no such instruction\nand more")

    monkeypatch.setattr(CpuIm2colGemm, "bind", bind)
    done = run("validate", "--cpu", "--kernel", KERNEL, SOME[0])
    assert done.exit_code == 1
    assert f"{SOME[0]} is left out: {KERNEL}(" in done.stderr
    assert "no such instruction and more" in done.stderr
    assert "1 were not validated" in done.stderr


def test_large_problems_are_sampled(monkeypatch):
    monkeypatch.setattr(tolerance, "WHOLE_UP_TO", 1000)
    p = "fprop_n2c4h40w40k16r3s3p1_nchw_f32"
    done = run("validate", "--cpu", "--kernel", KERNEL, p)
    assert done.exit_code == 0, done.output
    assert re.search(r"\) of \d{4} seen\n", done.stdout)
    (found,) = results(run("validate", "--cpu", "--json", p), "validate")
    assert 2000 < found["looked_at"] < found["elements"]


def test_every_config_can_be_asked_for():
    few, many = (
        results(run("validate", "--cpu", "--json", "--configs", each, SOME[0]), "validate")[0]["checked"]
        for each in ("default", "all")
    )
    assert len({each["kernel"] for each in few}) == len(few)
    assert len(many) > len(few)
    assert len({(each["kernel"], each["config"]) for each in many}) == len(many)


def test_a_table_gives_the_problems(tmp_path, other):
    other(None)
    path = tmp_path / "layers.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(shapes.HEADER)
        rows.writerow(["one", 8, 4, 9, 9, 8, 3, 3, 1, 1, 1, 1, 1, "here"])
    how = ("--op", "dgrad", "--op", "wgrad", "--dtype", "f16", "--layout", "nhwc", "--batch", 2)
    found = results(run("validate", "--cpu", "--json", "--shapes", path, *how), "validate")
    sizes = "n2c4h9w9k8r3s3p1_nhwc_f16"
    assert [one["problem"] for one in found] == [f"dgrad_{sizes}", f"wgrad_{sizes}"]
    path.write_text("nothing\n")
    fails(run("validate", "--cpu", "--shapes", path), 2, "--shapes: layers.csv: header must be")
    header = ",".join(shapes.HEADER) + "\n"
    path.write_text(header)
    fails(run("validate", "--cpu", "--shapes", path), 2, "has no rows")
    for text, said in (
        (header.encode() + b'"one,8\n', "layers.csv:2: unexpected end of data"),
        (header.encode() + b"x" * 200_000, "layers.csv:2: field larger than field limit"),
        (header.encode() + b"\xff\xfe\n", "layers.csv: not UTF-8: "),
        (b"", "layers.csv: header must be"),
    ):
        path.write_bytes(text)
        fails(run("validate", "--cpu", "--shapes", path), 2, f"--shapes: {said}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "one of the three"),
        ((SOME[0], "--random", 5), "one of the three"),
        ((SOME[0], "--op", "dgrad"), "--op choose from"),
        (("--random", 5, "--batch", 2), "--batch goes with --shapes"),
        ((SOME[0], "--kernel", "no_such"), "--kernel: kernel must be one of"),
    ],
)
def test_wrong_usage_is_one_line(words, said):
    fails(run("validate", "--cpu", *words), 2, said)


@pytest.mark.parametrize("words", [("--random", 0), ("--seed", -1), ("--shapes", "no.csv"), ("fprop_odd",)])
def test_what_click_refuses_names_the_help(words):
    usage(run("validate", "--cpu", *words))


def test_without_a_gpu_the_exit_code_is_3():
    fails(run("validate", SOME[0]), 3, "no CUDA device: CuPy is not installed; --cpu validates")


def test_kernels_that_take_nothing_are_a_failure():
    fails_with = run("validate", "--cpu", "--kernel", "cuda_direct", SOME[0])
    assert fails_with.exit_code == 1
    assert "the kernels named take none of these problems" in fails_with.stderr


@pytest.mark.parametrize(
    ("raised", "code"), [(KeyboardInterrupt(), 130), (LaunchError("illegal address"), 1)]
)
def test_what_ends_it_early_leaves_what_was_found(monkeypatch, raised, code):
    right, calls = validate.validate_problem, []

    def once(p, *args, **how):
        calls.append(p)
        if len(calls) == 2:
            raise raised
        return right(p, *args, **how)

    monkeypatch.setattr(validate, "validate_problem", once)
    done = run("validate", "--cpu", *SOME)
    assert done.exit_code == code
    assert "1 of 2 problems" in done.stdout
    assert SOME[0] in done.stdout
    assert SOME[1] not in done.stdout
    calls.clear()
    assert [one["problem"] for one in results(run("validate", "--cpu", "--json", *SOME), "validate")] == [
        SOME[0]
    ]


def test_huge_problems_are_left_out_with_a_reason():
    done = run("validate", "--cpu", "fprop_n2048c1h1024w1024k1r1s1_nchw_f16")
    assert done.exit_code == 1
    assert "too large for the host" in done.stderr


def test_on_a_gpu_cudnn_is_asked_and_what_is_missing_is_said(monkeypatch):
    card = launch.Device("cuda", "stand-in", capability=(9, 0), sms=1)

    def missing(device):
        raise RuntimeError("cuDNN's frontend is not installed")

    monkeypatch.setattr(opinions, "Cudnn", missing)
    opinion, notes = opinions.load(card)
    assert opinion is None
    assert notes == ["cuDNN's frontend is not installed", "no second opinion: PyTorch is not installed"]
    monkeypatch.setattr(opinions, "Cudnn", lambda device: type("There", (), {"name": "cuDNN 9.19.1"})())
    opinion, notes = opinions.load(card)
    assert (opinion.name, notes) == ("cuDNN 9.19.1", [])


def test_a_border_written_into_x_changes_nothing():
    p = ConvProblem.parse("fprop_n1c2h6w5k3r3s3p2+1x0+2_nhwc_f64+reflect")
    given = validated.measure.operands(p)
    for op in ("fprop", "wgrad"):
        one = replace(p, op=op)
        given = validated.measure.operands(one)
        bordered, operands, crop = opinions.with_border(one, given)
        expected = validated.measure.expected(one, given).values
        np.testing.assert_allclose(crop(validated.measure.expected(bordered, operands).values), expected)
