"""Small CUDA sources for tests of what compiles them."""

from __future__ import annotations

from gpuconv.backend.launch import Binary

KERNEL = """#include <gpuconv/tile/scale.cuh>
#include <gpuconv/params.cuh>  // twice in all, once in the closure
extern "C" __global__ void scale(gpuconv::Params p) {
  p.x[threadIdx.x] *= gpuconv::factor();
}
"""
HEADERS = {
    "tile/scale.cuh": """#pragma once
#include <gpuconv/params.cuh>
namespace gpuconv {
constexpr float factor() { return FACTOR; }
}  // namespace gpuconv
""",
    "params.cuh": """#pragma once
namespace gpuconv {
struct Params {
  float* x;
};
}  // namespace gpuconv
""",
    "unrelated.cuh": "#error never included\n",
}


def write(folder, kernel=KERNEL, **headers):
    """Sources in a folder: one kernel and its headers."""
    texts = {"kernels/scale.cu": kernel}
    texts |= {f"include/gpuconv/{name}": text for name, text in {**HEADERS, **headers}.items()}
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def binary(factor=2, arch="sm_80"):
    """What the kernel is compiled to."""
    return Binary("scale.cu", (("FACTOR", str(factor)),), arch)
