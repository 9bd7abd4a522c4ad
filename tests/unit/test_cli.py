"""The command line: what `problem` and `env` print, and one clear line for whatever goes wrong."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import stat
import textwrap
from pathlib import Path

import numpy as np
import pytest

import gpuconv
from gpuconv import dispatch, settings
from gpuconv.backend import blas, device
from gpuconv.cli import main, output
from gpuconv.problem import ConvProblem

from ..command import fails, plain_machine, process, read_end, results, run, usage

SOME = "fprop_n32c64h56w56k64r3s3p1_nhwc-ohwi_f16+bias+relu"
LONG = "dgrad_n128c512h28w28k512r3s3u2x1p0+1x0+2d2x1g32_nhwc-ohwi_bf16_relaxed+bias+res+relu"


@pytest.fixture(autouse=True)
def _plain_machine(monkeypatch):
    plain_machine(monkeypatch)


def test_help_and_version(monkeypatch):
    assert run("--version").stdout == f"gpuconv, version {gpuconv.__version__}\n"
    for command in ("demo", "filter", "problem", "bench", "env"):
        assert "--json" in run(command, "--help").stdout
    monkeypatch.setattr(main, "import_module", None)  # the overview loads no command
    text = run("--help").stdout
    assert all(name in text for name in ("demo", "filter", "problem", "bench", "env", "Exit codes"))


def test_unknown_command_and_option():
    usage(run("nosuch"), "nosuch")
    usage(run("demo", "--nosuch"), "--nosuch")


def test_python_m(tmp_path):
    code = "import runpy, sys; sys.argv[0] = 'x'; runpy.run_module('gpuconv', run_name='__main__')"
    done = process("problem", SOME, "--json", code=code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"][0]["problem"] == SOME


@pytest.mark.parametrize("args", [("problem", SOME), ("problem", SOME, "--json"), ("env",), ("--help",)])
def test_nobody_reads(args, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = process(*args, cwd=tmp_path, stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("args", [("problem", SOME), ("problem", SOME, "--json"), ("env",), ("--help",)])
def test_output_on_a_full_disk(args, tmp_path):
    with open("/dev/full", "w") as full:
        done = process(*args, cwd=tmp_path, stdout=full)
    assert done.returncode == 1
    assert done.stderr.startswith("gpuconv: cannot write")
    assert done.stderr.count("\n") == 1


def test_without_pillow(tmp_path):
    code = "import sys; sys.modules['PIL'] = None; from gpuconv.__main__ import main; main()"
    done = process("demo", code=code, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        1,
        "gpuconv: this command needs PIL: pip install 'gpuconv[cli]'\n",
    )
    assert process("env", code=code, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("args", [("demo",), ("problem", SOME)])
def test_wrong_variables(args):
    fails(run(*args, GPUCONV_KERNEL="nosuch"), 2, "GPUCONV_KERNEL", "nosuch", "cpu_im2col_gemm")
    fails(run(*args, GPUCONV_KERNEL="cpu_im2col_gemm", GPUCONV_CONFIG="a=1"), 2, "GPUCONV_CONFIG", "a=1")


def test_problem_for_people():
    text = run("problem", SOME, LONG).stdout
    for words in (
        *(f"{SOME}\n", f"\n{LONG}\n", "32 x 56 x 56 x 64 NHWC", "64 x 3 x 3 x 64 OHWI", "36,928 with bias"),
        *("7,398,752,256 (7.40 GFLOP)", "25,763,968 (24.57 MiB)", "287.2 FLOP/byte"),
        *("100,352 x 64 x 576", "576 products", "cpu_im2col_gemm(", "OHWI, I of one group", ", 32 of them"),
    ):
        assert words in text


def test_problem_as_json():
    first, second = results(run("problem", "--json", SOME, "fprop_n0c1h3w3k1r1s1_nchw_f64"), "problem")
    plan = dispatch.plan_for(ConvProblem.parse(SOME), device.cpu())
    assert first == {
        "problem": SOME, "op": "fprop", "dtype": "float16", "layout": "nhwc", "weights": "ohwi",
        "x_shape": [32, 56, 56, 64], "w_shape": [64, 3, 3, 64], "y_shape": [32, 56, 56, 64],
        "parameters": 64 * 64 * 9 + 64, "flops": 7398752256, "min_bytes": 25763968,
        "flops_per_byte": 7398752256 / 25763968, "gemm_mnk": [100352, 64, 576], "gemms": 1,
        "accumulation_length": 576, "device": str(device.cpu()), "rejects": [],
        "plan": {"kernel": plan.kernel, "config": str(plan.config), "workspace_bytes": plan.workspace_bytes},
    }  # fmt: skip
    assert (second["flops"], second["parameters"], second["min_bytes"]) == (0, 1, 8)


def test_problem_that_no_kernel_runs():
    pointwise = {"GPUCONV_KERNEL": "cpu_pointwise"}
    (found,) = results(run("problem", SOME, "--json", **pointwise), "problem")
    assert found["plan"] is None
    assert [reject["kernel"] for reject in found["rejects"]] == ["cpu_pointwise"]
    result = run("problem", SOME, **pointwise)
    assert result.exit_code == 0
    assert "cpu_pointwise: takes 1×1 kernels" in result.stdout


@pytest.mark.parametrize("flag", [(), ("--json",)])
def test_problem_that_is_none(flag):
    usage(run("problem", SOME, "fprop [bold]", *flag), "problem must look like", "fprop [bold]")
    usage(run("problem", "fprop_n1c1h3w3k1r4s3_nchw_f32", *flag), "the kernel does not fit")
    usage(run("problem", *flag), "Missing argument")


@pytest.mark.parametrize("args", [("env",), ("problem", LONG)])
def test_terminal_of_80_columns(monkeypatch, args):
    monkeypatch.setattr(output, "_on_terminal", lambda: True)
    text = run(*args, COLUMNS="80", NO_COLOR="1", TERM="xterm").stdout
    lines = re.sub(r"\x1b\[\d+m", "", text).splitlines()
    wide = [line for line in lines if len(line) > 80]
    assert wide == [arg for arg in args if arg == LONG]  # a problem can be copied whole
    if args == ("env",):  # nothing is cut off
        assert set(" ".join(settings.VARIABLES.values()).split()) <= set(text.split())
    assert any("│" in line for line in lines)


def test_encoding_without_lines(monkeypatch):
    monkeypatch.setattr(output, "_on_terminal", lambda: True)
    monkeypatch.setattr(output, "_encoding", lambda: "ascii")
    result = run("env")
    assert result.exit_code == 0
    assert result.stdout.isascii()
    assert "+--" in result.stdout


def test_env_for_people():
    result = run("env", GPUCONV_THREADS="none", GPUCONV_TREADS="2", GPUCONV_CONFIG="[/a]")
    assert (result.exit_code, result.stderr) == (0, "")
    for words in (
        *(gpuconv.__version__, np.__version__, blas.description(), device.cpu().name),
        *("CuPy is not installed", "GPUCONV_LOG", "not set", "[/a]", str(Path(gpuconv.__file__).parent)),
        "error: GPUCONV_THREADS must be an integer from 1 to 4096, got 'none'",
        *("error: gpuconv knows no such variable", "error: has no effect without GPUCONV_KERNEL"),
    ):
        assert words in result.stdout


def test_env_tells_of_the_compiler_and_its_cache(monkeypatch, tmp_path):
    def found(**env):
        return results(run("env", "--json", GPUCONV_CACHE_DIR=str(tmp_path), **env), "env")[0]

    before = found(GPUCONV_LINEINFO="2")
    assert before["versions"]["NVRTC"] == "none: CuPy is not installed"
    assert before["folders"]["compiled kernels"] == f"{tmp_path / 'cubins'} (not there yet)"
    assert list(tmp_path.iterdir()) == []
    errors = {each["name"]: each["error"] for each in before["variables"]}
    assert errors["GPUCONV_LINEINFO"] == "GPUCONV_LINEINFO must be 0 or 1, got '2'"
    (tmp_path / "cubins").mkdir(mode=0o700)
    monkeypatch.setattr("gpuconv.backend.detect.nvrtc", lambda: (None, (13, 1)))
    after = found()
    assert after["versions"]["NVRTC"] == "13.1"
    assert after["folders"]["compiled kernels"] == str(tmp_path / "cubins")
    monkeypatch.setattr(os, "geteuid", lambda: 12345, raising=False)
    monkeypatch.setattr(os, "name", "posix")
    assert "(not used: " in found()["folders"]["compiled kernels"]


def test_env_with_everything_broken(monkeypatch):
    def broken(*args):
        raise RuntimeError("broken\nin two lines")

    for name in (
        "gpuconv.backend.blas.description",
        "gpuconv.backend.device.cpu",
        "importlib.metadata.version",
    ):
        monkeypatch.setattr(name, broken)
    monkeypatch.setattr("gpuconv.backend.source.cuda_source_folder", broken)
    result = run("env", "--json", GPUCONV_KERNEL="nosuch")
    assert (result.exit_code, result.stderr) == (0, "")
    (found,) = results(result, "env")
    text = "broken in two lines"
    assert found["versions"]["BLAS"] == found["versions"]["rich"] == f"error: {text}"
    assert found["versions"]["CuPy"] == "not installed"
    assert found["devices"] == [
        {"device": "cpu", "error": text},
        {"device": "cuda", "error": "CuPy is not installed"},
    ]
    assert found["folders"]["CUDA sources"] == f"error: {text}"
    errors = {each["name"]: each["error"] for each in found["variables"]}
    assert errors["GPUCONV_KERNEL"].startswith("kernel must be one of")
    assert errors["GPUCONV_LOG"] is None


def test_env_with_wrong_threads_in_a_fresh_process(monkeypatch, tmp_path):
    monkeypatch.setenv("GPUCONV_THREADS", "0")
    done = process("env", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "cpu   error: GPUCONV_THREADS must be" in done.stdout
    done = process("problem", SOME, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "gpuconv: GPUCONV_THREADS must be an integer from 1 to 4096, got '0'\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes that have a name")
@pytest.mark.parametrize("through", ["itself", "a link"])
def test_a_pipe_is_written_to_and_stays(tmp_path, through):
    pipe, path, file = tmp_path / "pipe", tmp_path / "pipe", tmp_path / "file"
    with read_end(pipe) as reader:
        if through == "a link":
            path = tmp_path / "link"
            path.symlink_to(pipe)
        output.put({path: lambda: b"one", file: lambda: b"two"})
        assert reader.read() == b"one"
    assert (pipe.is_fifo(), file.read_bytes()) == (True, b"two")
    assert sorted(os.listdir(tmp_path)) == sorted({"pipe", "file", path.name})


def test_a_device_is_written_to_and_stays(tmp_path):
    device = tmp_path / "full"
    try:
        os.mknod(device, 0o600 | stat.S_IFCHR, os.makedev(1, 7))
        with open(device, "wb"):
            pass
    except (AttributeError, OSError):
        pytest.skip("makes no devices")
    with pytest.raises(output.Failure, match=r"cannot write .*full: No space left on device"):
        output.put({device: lambda: b"one", tmp_path / "file": lambda: b"two"})
    assert device.is_char_device()
    assert os.listdir(tmp_path) == ["full"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes that have a name")
def test_a_pipe_can_be_written_wherever_it_is_and_nobody_waits_for_it(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")

    def refuse(**how):
        raise PermissionError(errno.EACCES, "no such folder is written")

    monkeypatch.setattr(output.tempfile, "NamedTemporaryFile", refuse)
    output.check_writable("--record", tmp_path / "pipe")
    with pytest.raises(output.WrongUsage, match=r"--record: .*no such folder"):
        output.check_writable("--record", tmp_path / "file")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(output.WrongUsage, match=r"--record: .*pipe cannot be written: Permission denied"):
        output.check_writable("--record", tmp_path / "pipe")


@pytest.mark.skipif(os.name == "nt" or not hasattr(socket, "AF_UNIX"), reason="no sockets that have a name")
def test_a_socket_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # its name has to be short
    with socket.socket(socket.AF_UNIX) as there:
        there.bind("s")
        with pytest.raises(output.Failure, match="cannot write s: "):
            output.put({Path("s"): lambda: b"one"})
    assert Path("s").is_socket()


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="no /dev/stdout")
def test_standard_output_by_its_name(tmp_path):
    code = """
        from pathlib import Path
        from gpuconv.cli import output
        output.check_writable("--out", Path("/dev/stdout"))
        output.put({Path("/dev/stdout"): lambda: b"one\\n", Path("/dev/fd/1"): lambda: b"two\\n"})
        output.write("three\\n")
    """
    done = process(code=textwrap.dedent(code), cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("one\ntwo\nthree\n", "")
    with open(tmp_path / "file", "w") as file:
        file.write("zero\n")
        file.flush()
        done = process(code=textwrap.dedent(code), cwd=tmp_path, stdout=file)
    assert done.stderr == ""
    assert (tmp_path / "file").read_text() == "zero\none\ntwo\nthree\n"
    assert os.listdir(tmp_path) == ["file"]
