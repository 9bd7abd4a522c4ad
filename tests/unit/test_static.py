"""Main loops are read right from SASS, and what got worse is said."""

from __future__ import annotations

import json

import pytest

from bench import sass, static

SASS = """
        .text.direct:
.text.direct:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   LDS.128 R4, [R2] ;
.L_x_2:
        /*0020*/                   LDS R8, [R2+0x10] ;
        /*0030*/                   FFMA R9, R4, R8, R9 ;
        /*0040*/              @!P0 FFMA R10, R5, R8, R10 ;
        /*0050*/                   IADD3 R2, R2, 0x4, RZ ;
        /*0060*/               @P1 BRA `(.L_x_2) ;
        /*0070*/                   LDG.E.128.CONSTANT R12, [R20.64] ;
        /*0080*/                   STS.64 [R3], R12 ;
        /*0090*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*00a0*/               @P2 BRA `(.L_x_1) ;
        /*00b0*/                   EXIT ;
.L_x_3:
        /*00c0*/                   BRA `(.L_x_3);
        /*00d0*/                   NOP;
"""


def test_loops():
    inner, outer = sass.loops(SASS)
    assert len(inner.instructions) == 5
    assert len(outer.instructions) == 10
    assert sass.main_loop(SASS) == outer
    assert outer.opcodes["FFMA"] == 2
    assert inner.share == 2 / 5
    assert outer.kinds == {"multiply": 2, "integer": 1, "shared": 3, "global": 1, "control": 3}
    assert outer.wavefronts == 4 + 1 + 2


def test_what_only_some_threads_run():
    loop = sass.Loop(
        (
            "BSSY B0, `(.L_x_1)",
            "LDS.64 R2, [R4]",
            "@P1 BRA `(.L_x_2)",
            "LDS.128 R4, [R6]",
            "STS.64 [R7], R4",
            "BSYNC B0",
            "LDSM.16.M88.4 R8, [R9]",
            "@!P0 BRA `(.L_x_3)",
            "LDS R8, [R9]",
            "@P6 BRA `(.L_x_0)",
        )
    )
    assert (loop.wavefronts, loop.wavefronts_of_some) == (2 + 4 + 2 + 4 + 1, 4 + 2)


def test_inner_loops_count_as_often_as_they_run():
    (inner,) = sass.main_loop(SASS).inner
    assert len(inner.instructions) == 5
    assert sass.main_loop(SASS).executed(2).opcodes["FFMA"] == 2
    as_it_runs = sass.main_loop(SASS).executed(8)
    assert as_it_runs.opcodes["FFMA"] == 8
    assert len(as_it_runs.instructions) == 10 + 3 * 5
    assert as_it_runs.opcodes["BAR"] == 1


def test_the_loop_that_runs_is_the_shorter_one():
    aligned = """
.L_x_8:
        /*0100*/                   FFMA R9, R4, R8, R9 ;
        /*0110*/                   FFMA R10, R5, R8, R10 ;
        /*0120*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*0130*/               @P2 BRA `(.L_x_8) ;
"""
    text = SASS.replace("        /*00b0*/                   EXIT ;", aligned)
    assert len(sass.busiest_loop(text, 2).instructions) == 4
    assert len(sass.main_loop(text).instructions) == 10


def test_a_kernel_without_a_loop_is_said():
    with pytest.raises(ValueError, match="no loop"):
        sass.main_loop("        /*0000*/                   EXIT ;")


ROW = {
    "kernel": "k", "problem": "p", "card": "A100", "arch": "sm_80", "config": "c", "instructions": 1000,
    "share": 0.85, "integer": 100, "shared": 9, "global": 9, "registers": 128, "spills": 0, "smem_bytes": 9,
    "blocks_per_sm": 2, "warps_per_sm": 16, "bound": "issue",
}  # fmt: skip


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"instructions": 1031}, "instructions 1031, was 1000"),
        ({"integer": 106}, "integer"),
        ({"registers": 136}, "registers"),
        ({"smem_bytes": 10}, "smem_bytes"),
        ({"share": 0.845}, "share"),
        ({"spills": 8}, "spills 8"),
        ({"warps_per_sm": 8}, "8 warps"),
        ({"problem": "q"}, "not in the file"),
        ({"config": "d"}, "another config, d; it was c"),
        ({"bound": "shared memory"}, "bound by shared memory, was by issue"),
    ],
)
def test_what_got_worse_is_said(more, word):
    assert any(word in text for text in static.worse([{**ROW, **more}], [ROW]))


@pytest.mark.parametrize(
    "more", [{}, {"instructions": 1030}, {"share": 0.9}, {"share": 0.847}, {"registers": 90}]
)
def test_what_did_not_is_not(more):
    assert static.worse([{**ROW, **more}], [ROW]) == []


def test_what_is_gone_is_said():
    assert static.worse([], [ROW]) == ["k p A100: no longer there"]


def test_files_hold_every_kernel_and_problem():
    files = sorted(static.FOLDER.glob("nvrtc-*.json"))
    assert files
    for file in files:
        rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
        assert {row["problem"] for row in rows} == set(static.PROBLEMS)
        assert {row["kernel"] for row in rows} >= {"cuda_direct", "implicit_gemm_simt", "implicit_gemm_sm80"}
        assert not any(row["spills"] for row in rows)
