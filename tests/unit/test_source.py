"""What a kernel is made of: all its headers, and a digest that nothing else changes."""

from __future__ import annotations

import shutil

import pytest

from gpuconv.backend import source
from gpuconv.errors import CompileError

from .. import cuda


def test_closure_has_each_header_once_in_order_of_inclusion(tmp_path):
    found = source.read("scale.cu", cuda.write(tmp_path))
    assert found.text == cuda.KERNEL
    assert list(found.headers) == ["gpuconv/tile/scale.cuh", "gpuconv/params.cuh"]
    assert found.headers["gpuconv/params.cuh"] == cuda.HEADERS["params.cuh"]


def test_headers_may_include_each_other(tmp_path):
    ring = "#pragma once\n#include <gpuconv/tile/scale.cuh>\n"
    found = source.read("scale.cu", cuda.write(tmp_path, **{"params.cuh": ring}))
    assert list(found.headers) == ["gpuconv/tile/scale.cuh", "gpuconv/params.cuh"]


@pytest.mark.parametrize("name", ["kernels/scale.cu", *(f"include/gpuconv/{name}" for name in cuda.HEADERS)])
def test_digest_changes_with_what_is_in_the_closure_and_with_nothing_else(tmp_path, name):
    folder = cuda.write(tmp_path)
    before = source.read("scale.cu", folder).digest
    with (folder / name).open("a") as file:
        file.write("// more\n")
    assert (source.read("scale.cu", folder).digest == before) == ("unrelated" in name)


def test_digest_knows_where_a_text_ends_and_what_it_is_called():
    def digest(file, text, headers):
        return source.Source(file, text, headers).digest

    found = {
        digest("a.cu", "xy", {}),
        digest("a.cux", "y", {}),
        digest("b.cu", "xy", {}),
        digest("a.cu", "x", {"gpuconv/y.cuh": ""}),
        digest("a.cu", "x", {"gpuconv/z.cuh": ""}),
        digest("a.cu", "x", {"gpuconv/y.cuh": "", "gpuconv/z.cuh": ""}),
    }
    assert len(found) == 6


def test_digest_stays_when_the_folder_moves(tmp_path):
    before = source.read("scale.cu", cuda.write(tmp_path / "here")).digest
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert source.read("scale.cu", tmp_path / "there").digest == before


@pytest.mark.parametrize(
    "target",
    [
        *(
            '"gpuconv/params.cuh"',
            "<params.cuh>",
            "<cuda_fp16.h>",
            "<gpuconv/../../secret.cuh>",
            "SOME_MACRO",
        ),
        *("<gpuconv//params.cuh>", "<gpuconv/params.h>", "</gpuconv/params.cuh>", "<gpuconv/params.cuh", ""),
    ],
)
def test_other_includes_are_refused(tmp_path, target):
    for line in (f"#include {target}\n", f"  #  include {target} // why not\n"):
        folder = cuda.write(tmp_path, **{"params.cuh": line})
        with pytest.raises(CompileError, match=r"params.cuh includes .*: only <gpuconv/....cuh> may be"):
            source.read("scale.cu", folder)


@pytest.mark.parametrize("file", ["../scale.cu", "/etc/passwd", "scale", "a/../scale.cu", "scale.cu\n", ""])
def test_names_that_lead_elsewhere_are_refused(tmp_path, file):
    with pytest.raises(CompileError, match="a kernel's file must be named like"):
        source.read(file, cuda.write(tmp_path))


def test_missing_and_unreadable_files_are_named(tmp_path, monkeypatch):
    folder = cuda.write(tmp_path)
    with pytest.raises(CompileError, match=r"the source of nosuch.cu cannot be read: .*nosuch.cu"):
        source.read("nosuch.cu", folder)
    (folder / "include/gpuconv/params.cuh").write_bytes(b"\xff")
    with pytest.raises(CompileError, match=r"the source of scale.cu cannot be read: 'utf-8'"):
        source.read("scale.cu", folder)
    (folder / "include/gpuconv/params.cuh").unlink()
    with pytest.raises(CompileError, match=r"cannot be read: .*params.cuh"):
        source.read("scale.cu", folder)

    def missing():
        raise FileNotFoundError("the CUDA sources are missing")

    monkeypatch.setattr(source, "cuda_source_folder", missing)
    with pytest.raises(CompileError, match="the CUDA sources are missing"):
        source.read("scale.cu")
