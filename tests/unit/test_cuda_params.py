"""Structs that kernels take are laid out on the host byte for byte as C++ does."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import pytest

from gpuconv.backend import source
from gpuconv.kernels.cuda import params

#: Struct and its leading pointers, which the host prepends at launch.
STRUCTS = {
    params.FastDivmod: (),
    params.Strides: (),
    params.Axis: (),
    params.DirectParams: ("in", "taps", "out", "bias", "residual"),
    params.DepthSteps: (),
    params.GemmParams: ("in", "taps", "out", "bias", "residual"),
    params.SplitSumParams: ("partial", "out", "bias", "residual"),
    params.BorderSumParams: ("partial", "out", "bias", "residual"),
    params.Count: (),
    params.UnfoldParams: ("from", "to"),
    params.BiasGradParams: ("from", "to"),
    params.PadAxis: (),
    params.PadParams: ("from", "to"),
}


def test_offsets_are_the_compilers(tmp_path, need):
    compiler = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
    if compiler is None:
        need("cxx", "there is no C++ compiler on the path")
    lines = ["#define __host__", "#define __device__", "#include <gpuconv/params.cuh>"]
    lines += ["#include <cstddef>", "#include <cstdio>", "using namespace gpuconv;", "int main() {"]
    expected = []
    for struct, pointers in STRUCTS.items():
        name = struct.__name__
        lines.append(f'std::printf("{name} %zu\\n", sizeof({name}));')
        expected.append(f"{name} {8 * len(pointers) + ctypes.sizeof(struct)}")
        for index, field in enumerate(pointers):
            lines.append(f'std::printf("{name}.{field} %zu\\n", offsetof({name}, {field}));')
            expected.append(f"{name}.{field} {8 * index}")
        for field, _ in struct._fields_:
            lines.append(f'std::printf("{name}.{field} %zu\\n", offsetof({name}, {field}));')
            expected.append(f"{name}.{field} {8 * len(pointers) + getattr(struct, field).offset}")
    (tmp_path / "main.cpp").write_text("\n".join([*lines, "}"]))
    include = source.cuda_source_folder() / "include"
    subprocess.run(
        [compiler, "-std=c++17", f"-I{include}", "main.cpp", "-o", "main"], cwd=tmp_path, check=True
    )
    done = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == expected


@pytest.mark.parametrize("divisor", [*range(1, 200), 2**30 - 1, 2**30, 2**30 + 1, 2**31 - 1])
def test_fast_division_by_host_constants(divisor):
    fast = params.FastDivmod.of(divisor)
    for n in {0, 1, divisor - 1, divisor, 7 * divisor - 1, 7 * divisor, 2**31 - 1} - {-1}:
        if n < 2**31:
            quotient = n if fast.multiplier == 0 else (n * fast.multiplier >> 32) >> fast.shift
            assert quotient == n // divisor
