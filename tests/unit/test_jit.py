"""Compiling with the real NVRTC where CuPy brings one; no GPU is needed."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from gpuconv.backend import cache, detect, dump, folders, jit, nvrtc, source
from gpuconv.errors import CompileError

from .. import cuda


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch, tmp_path):
    """Nothing is remembered, the cache is empty, no variable is set."""
    for name in ("GPUCONV_DUMP", "GPUCONV_LINEINFO", "GPUCONV_ASSERT_CACHED", "GPUCONV_LOG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GPUCONV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(jit, "_found", {})
    monkeypatch.setattr(folders, "_said", {})
    monkeypatch.setattr(dump, "_said", set())


@pytest.fixture
def compiler(need):
    """Skip where there is no compiler."""
    try:
        return detect.nvrtc()
    except RuntimeError as error:
        need("compile", str(error))


@pytest.fixture
def compiled(monkeypatch):
    """Names of everything that reaches the compiler; without one it gives bytes of its own."""
    names = []

    def compile_source(found, flags, name):
        names.append(name)
        time.sleep(0.05)
        return nvrtc.Compiled(f"{found.digest} {flags}".encode(), "ptx", "log")

    monkeypatch.setattr(nvrtc, "compile_source", compile_source)
    monkeypatch.setattr(nvrtc, "load", lambda: (None, (13, 0)))
    return names


def again(monkeypatch, binary, folder):
    """As a new process would find it."""
    monkeypatch.setattr(jit, "_found", {})
    return jit.compile_all([binary], folder)[binary]


def sections(elf):
    """Each section's bytes by its name."""
    (table,), (size, count, names) = struct.unpack_from("<Q", elf, 40), struct.unpack_from("<3H", elf, 58)
    headers = [struct.unpack_from("<2I4Q", elf, table + i * size) for i in range(count)]
    _, _, _, _, start, length = headers[names]
    text = elf[start : start + length]
    return {
        text[name : text.index(b"\0", name)].decode(): elf[start : start + length]
        for name, _, _, _, start, length in headers
    }


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("arch", ["sm_80", "sm_86", "sm_90a", "sm_120"])
def test_a_cubin_is_whole(tmp_path, arch):
    binary = cuda.binary(arch=arch)
    cubin = jit.compile_all([binary], cuda.write(tmp_path))[binary]
    assert cubin.startswith(b"\x7fELF")
    programs, size, count = *struct.unpack_from("<Q", cubin, 32), *struct.unpack_from("<2H", cubin, 54)
    assert len(cubin) == programs + size * count
    assert len(sections(cubin)[".text.scale"]) > 100


def test_a_cut_cubin_is_completed_and_a_shorter_one_refused():
    tables = struct.pack("<QQ", 64, 100) + bytes(6) + struct.pack("<4H", 0, 0, 10, 1)
    elf = b"\x7fELF\x02".ljust(32, b"\0") + tables + bytes(48)
    assert len(elf) == 110
    assert nvrtc._whole(elf, "it") == nvrtc._whole(elf[:-1], "it") == elf
    for cut in (elf[:-2], elf[:40], b""):
        with pytest.raises(CompileError, match="it does not compile: the compiler gave"):
            nvrtc._whole(cut, "it")


@pytest.mark.usefixtures("compiler")
def test_a_fresh_process_may_begin_with_many_at_once(tmp_path):
    code = """if True:
        import pathlib, sys
        from gpuconv.backend import jit
        from tests import cuda
        print(len(jit.compile_all([cuda.binary(i) for i in range(6)], pathlib.Path(sys.argv[1]))))
    """
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, cuda.write(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "6\n", done.stderr


def test_one_thread_at_a_time_loads_the_compiler(monkeypatch):
    inside, most = [], []

    def get_version():
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.02)
        inside.pop()
        return 13, 0

    fake = types.SimpleNamespace(
        cuda=types.SimpleNamespace(nvrtc=types.SimpleNamespace(getVersion=get_version))
    )
    monkeypatch.setitem(sys.modules, "cupy", fake)
    threads = [threading.Thread(target=detect.nvrtc) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4


@pytest.mark.usefixtures("compiler")
def test_resources_are_ptxas_own(tmp_path):
    plain = jit.resources(cuda.binary(), cuda.write(tmp_path / "plain"))
    assert 0 < plain.registers < 32
    assert (plain.stack, plain.spill_stores, plain.spill_loads, plain.shared) == (0, 0, 0, 0)
    body = """extern "C" __global__ void __launch_bounds__(1024, 2) scale(float* x, const int* at) {
      __shared__ float all[256];
      float kept[200];
      for (int i = 0; i < 200; ++i) kept[i] = x[i * 1024 + threadIdx.x];
      all[threadIdx.x % 256] = kept[at[0]];
      __syncthreads();
      for (int i = 0; i < 200; ++i) x[i * 1024 + threadIdx.x] = kept[i] * all[at[i]];
    }"""
    heavy = jit.resources(cuda.binary(), cuda.write(tmp_path / "heavy", body))
    assert (heavy.registers, heavy.shared) == (32, 1024)
    assert heavy.stack >= 800
    assert not (tmp_path / "cache").exists()


def test_resources_of_several_kernels_are_the_most_of_each():
    log = """ptxas info    : Compiling entry function 'a' for 'sm_90a'
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 90 registers, used 1 barriers, 128 bytes smem
ptxas info    : Compiling entry function 'b' for 'sm_90a'
ptxas         .     160 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 40 registers, used 0 barriers, 160 bytes cumulative stack size, 368 bytes cmem[0]"""
    assert nvrtc.Resources.parse(log) == nvrtc.Resources(90, 160, 8, 12, 128)
    with pytest.raises(CompileError, match="reports no kernel's registers"):
        nvrtc.Resources.parse("something else")


@pytest.mark.usefixtures("compiler")
def test_an_error_has_the_binary_and_the_compilers_words(tmp_path):
    folder = cuda.write(tmp_path, **{"params.cuh": "int wrong = nosuchname;\n"})
    with pytest.raises(CompileError) as caught:
        jit.compile_all([cuda.binary()], folder)
    first, *log = str(caught.value).splitlines()
    assert first.startswith("scale.cu sm_80 -DFACTOR=2 does not compile: ")
    assert 'gpuconv/params.cuh(1): error: identifier "nosuchname" is undefined' in log
    with pytest.raises(CompileError, match="sm_10 -DFACTOR=2 does not compile"):
        jit.compile_all([cuda.binary(arch="sm_10")], folder)
    cuda.write(tmp_path)  # a failure is not remembered
    jit.compile_all([cuda.binary()], folder)


@pytest.mark.usefixtures("compiler")
def test_the_compiler_looks_into_no_folder(tmp_path, monkeypatch):
    peep = '#if __has_include("near.h") || __has_include(<gpuconv/unrelated.cuh>)\n#error peeps\n#endif\n'
    folder = cuda.write(tmp_path, peep + cuda.KERNEL)
    for place in (folder, folder / "kernels", folder / "include"):
        (place / "near.h").write_text("")
        monkeypatch.chdir(place)
        jit.resources(cuda.binary(), folder)


def test_no_compiler_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(CompileError, match=r"^CUDA kernels cannot be compiled: CuPy is not installed$"):
        jit.compile_all([cuda.binary()], cuda.write(tmp_path))


def test_the_key_depends_on_everything_once(monkeypatch, tmp_path, compiled):
    def key(binary, **headers):
        found = source.read(binary.file, cuda.write(tmp_path, **headers))
        return jit.key(found, jit.options(binary))

    keys = [key(cuda.binary()), key(cuda.binary(factor=3)), key(cuda.binary(arch="sm_86"))]
    keys.append(key(cuda.binary(), **{"params.cuh": cuda.HEADERS["params.cuh"] + "//"}))
    monkeypatch.setenv("GPUCONV_LINEINFO", "1")
    keys.append(key(cuda.binary()))
    monkeypatch.setenv("GPUCONV_LINEINFO", "0")
    monkeypatch.setattr(nvrtc, "load", lambda: (None, (13, 1)))
    keys.append(key(cuda.binary()))
    monkeypatch.setattr(jit, "_SCHEMA", 0)
    keys.append(key(cuda.binary()))
    assert len(set(keys)) == 7
    assert all(len(each) == 64 and int(each, 16) for each in keys)
    assert key(cuda.binary()) == keys[-1]


def test_definitions_are_sorted():
    binary = cuda.Binary("scale.cu", (("B", "2"), ("A", "1")), "sm_90a")
    assert jit.options(binary)[-2:] == ("-DA=1", "-DB=2")
    assert not any("ftz" in option or "fast" in option for option in jit.options(binary))


def test_each_binary_is_compiled_once_whoever_asks(monkeypatch, tmp_path, compiled):
    folder = cuda.write(tmp_path)
    binaries = [cuda.binary(factor) for factor in (1, 2, 3, 2, 1)]
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(jit.compile_all(binaries, folder))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(compiled) == sorted(map(str, set(binaries)))
    assert len(found) == 8
    assert all(each == found[0] for each in found)
    assert len(set(found[0].values())) == 3
    assert again(monkeypatch, binaries[0], folder) == found[0][binaries[0]]
    assert len(compiled) == 3  # from the disk


def test_waiting_threads_get_the_error_and_the_next_call_tries_again(monkeypatch, tmp_path, compiled):
    folder, tries, errors = cuda.write(tmp_path), [], []

    def fail(found, flags, name):
        tries.append(name)
        time.sleep(0.2)
        raise CompileError("no")

    def ask():
        try:
            jit.compile_all([cuda.binary()], folder)
        except CompileError as error:
            errors.append(str(error))

    working = nvrtc.compile_source
    monkeypatch.setattr(nvrtc, "compile_source", fail)
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(tries), errors) == (1, ["no"] * 4)
    monkeypatch.setattr(nvrtc, "compile_source", working)
    assert jit.compile_all([cuda.binary()], folder)


def test_a_changed_header_is_compiled_anew(monkeypatch, tmp_path, compiled):
    before = again(monkeypatch, cuda.binary(), cuda.write(tmp_path))
    text = cuda.HEADERS["params.cuh"].replace("float", "double")
    assert again(monkeypatch, cuda.binary(), cuda.write(tmp_path, **{"params.cuh": text})) != before
    assert again(monkeypatch, cuda.binary(), cuda.write(tmp_path)) == before
    assert len(compiled) == 2


def test_a_damaged_file_is_compiled_anew_and_replaced(monkeypatch, tmp_path, compiled):
    folder = cuda.write(tmp_path)
    right = again(monkeypatch, cuda.binary(), folder)
    (file,) = cache.folder().iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert again(monkeypatch, cuda.binary(), folder) == right
    assert again(monkeypatch, cuda.binary(), folder) == right
    assert len(compiled) == 2


def test_without_a_disk_it_works_from_memory(monkeypatch, tmp_path, compiled):
    monkeypatch.setenv("GPUCONV_CACHE_DIR", "/dev/null/cache")
    folder = cuda.write(tmp_path)
    with pytest.warns(RuntimeWarning, match="kept in memory only") as said:
        jit.compile_all([cuda.binary(1), cuda.binary(2)], folder)
    assert len(said) == 1
    jit.compile_all([cuda.binary(1), cuda.binary(2)], folder)
    assert len(compiled) == 2


def test_assert_cached(monkeypatch, tmp_path, compiled):
    folder = cuda.write(tmp_path)
    monkeypatch.setenv("GPUCONV_ASSERT_CACHED", "1")
    with pytest.raises(
        CompileError, match=r"GPUCONV_ASSERT_CACHED=1 forbids to compile scale.cu sm_80 -DFACT"
    ):
        jit.compile_all([cuda.binary()], folder)
    monkeypatch.setenv("GPUCONV_ASSERT_CACHED", "0")
    again(monkeypatch, cuda.binary(), folder)
    monkeypatch.setenv("GPUCONV_ASSERT_CACHED", "1")
    again(monkeypatch, cuda.binary(), folder)
    assert len(compiled) == 1
    monkeypatch.setenv("GPUCONV_ASSERT_CACHED", "yes")
    with pytest.raises(ValueError, match="GPUCONV_ASSERT_CACHED must be 0 or 1, got 'yes'"):
        again(monkeypatch, cuda.binary(), folder)


@pytest.mark.usefixtures("compiled")
def test_the_log_says_what_was_compiled(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GPUCONV_LOG", "compile")
    for _ in range(2):
        again(monkeypatch, cuda.binary(), cuda.write(tmp_path))
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("gpuconv compile: scale.cu sm_80 -DFACTOR=2: 0.0")
    assert second == "gpuconv compile: scale.cu sm_80 -DFACTOR=2: from the cache"


@pytest.mark.usefixtures("compiler")
def test_a_dump_has_all_there_is_to_see(monkeypatch, tmp_path):
    folder = cuda.write(tmp_path)
    plain = again(monkeypatch, cuda.binary(arch="sm_90a"), folder)
    monkeypatch.setenv("GPUCONV_DUMP", str(tmp_path / "dump"))
    dumped = again(monkeypatch, cuda.binary(arch="sm_90a"), folder)  # though it is in the cache
    assert sections(dumped).pop(".text.scale") == sections(plain).pop(".text.scale")
    (place,) = (tmp_path / "dump").iterdir()
    assert place.name.startswith("scale_sm_90a_")
    files = {path.relative_to(place).as_posix(): path for path in place.rglob("*") if path.is_file()}
    sass = files.pop("scale.sass", None)
    assert set(files) == {
        *("kernels/scale.cu", "include/gpuconv/tile/scale.cuh", "include/gpuconv/params.cuh"),
        *("options.txt", "scale.ptx", "scale.cubin", "ptxas.txt"),
    }
    assert files["scale.cubin"].read_bytes() == dumped
    assert files["kernels/scale.cu"].read_text() == cuda.KERNEL
    assert "--gpu-architecture=sm_90a\n" in files["options.txt"].read_text()
    assert ".entry scale" in files["scale.ptx"].read_text()
    assert nvrtc.Resources.parse(files["ptxas.txt"].read_text()).registers > 0
    if dump.tool("nvdisasm") or dump.tool("cuobjdump"):
        assert "FMUL" in sass.read_text() or "FADD" in sass.read_text()


@pytest.mark.usefixtures("compiled")
def test_a_dump_that_cannot_be_written_is_said_once(monkeypatch, tmp_path):
    monkeypatch.setenv("GPUCONV_DUMP", "/dev/null/dump")
    with pytest.warns(RuntimeWarning, match="GPUCONV_DUMP: /dev/null/dump/scale_sm_80_.* cannot be") as said:
        found = jit.compile_all([cuda.binary(1), cuda.binary(2)], cuda.write(tmp_path))
    assert len(found) == 2
    assert len(said) == 1


@pytest.mark.usefixtures("compiled")
def test_a_disassembler_that_fails_leaves_the_rest(monkeypatch, tmp_path):
    def fail(*args, **options):
        raise subprocess.CalledProcessError(1, "nvdisasm")

    monkeypatch.setenv("GPUCONV_DUMP", str(tmp_path / "dump"))
    monkeypatch.setattr(dump, "tool", str)
    monkeypatch.setattr(dump.subprocess, "run", fail)
    jit.compile_all([cuda.binary()], cuda.write(tmp_path))
    (place,) = (tmp_path / "dump").iterdir()
    assert (place / "scale.cubin").exists()
    assert not (place / "scale.sass").exists()


@pytest.mark.usefixtures("compiler")
def test_line_numbers(monkeypatch, tmp_path):
    folder = cuda.write(tmp_path)
    assert b".debug_line" not in again(monkeypatch, cuda.binary(), folder)
    monkeypatch.setenv("GPUCONV_LINEINFO", "1")
    assert b".debug_line" in again(monkeypatch, cuda.binary(), folder)
