"""The CUDA sources are found, and what runs on any processor is right there."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from gpuconv.backend import source

DIVISIONS = r"""
#define __host__
#define __device__
#include <gpuconv/fast_divmod.cuh>
#include <cstdio>
#include <initializer_list>
int main() {
  const unsigned top = 0x7fffffff;
  unsigned long long state = 1, tried = 0;
  auto next = [&] {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return unsigned(state >> 33);
  };
  auto check = [&](unsigned n, unsigned d) {
    unsigned rest, quotient = gpuconv::FastDivmod::of(d).divmod(n, rest);
    ++tried;
    if (quotient == n / d && rest == n % d) return true;
    std::printf("%u / %u gave %u rest %u\n", n, d, quotient, rest);
    return false;
  };
  auto around = [&](unsigned d) {
    bool right = check(0, d) && check(1, d) && check(top, d) && check(d - 1, d) && check(d, d);
    for (int i = 0; i < 50; ++i) {
      unsigned n = next(), multiple = n / d * d;
      right = right && check(n, d) && check(multiple, d) && (multiple == 0 || check(multiple - 1, d));
    }
    return right;
  };
  for (unsigned d = 1; d <= 3000; ++d) if (!around(d)) return 1;
  for (int bit = 1; bit < 31; ++bit)
    for (unsigned d : {(1u << bit) - 1, 1u << bit, (1u << bit) + 1}) if (!around(d)) return 1;
  for (int i = 0; i < 3000; ++i) if (!around(next() % top + 1)) return 1;
  if (!around(top)) return 1;
  std::printf("%llu divisions\n", tried);
}
"""


def test_sources_are_found():
    folder = source.cuda_source_folder()
    assert (folder / "include" / "gpuconv" / "fast_divmod.cuh").is_file()


def test_missing_sources_are_named(monkeypatch, tmp_path):
    source.cuda_source_folder.cache_clear()
    monkeypatch.setattr(source, "__file__", str(tmp_path / "gpuconv" / "backend" / "source.py"))
    with pytest.raises(FileNotFoundError, match="CUDA sources are missing: looked in"):
        source.cuda_source_folder()
    source.cuda_source_folder.cache_clear()


def test_fast_division(tmp_path, need):
    compiler = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
    if compiler is None:
        need("cxx", "there is no C++ compiler on the path")
    (tmp_path / "main.cpp").write_text(DIVISIONS)
    include = source.cuda_source_folder() / "include"
    command = [
        compiler,
        "-std=c++17",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{include}",
        "main.cpp",
        "-o",
        "main",
    ]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.split()[0]) > 500_000


def test_headers_compile_alone_with_nvcc(tmp_path, need):
    compiler = shutil.which("nvcc")
    if compiler is None:
        need("nvcc", "nvcc is not on the path")
    include = source.cuda_source_folder() / "include"
    for header in include.rglob("*.cuh"):
        name = header.relative_to(include)
        (tmp_path / "one.cu").write_text(f"#include <{name}>\n")
        command = [compiler, "-std=c++17", "-arch=sm_80", f"-I{include}", "-c", "one.cu", "-o", "one.o"]
        subprocess.run(command, cwd=tmp_path, check=True)
