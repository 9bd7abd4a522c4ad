"""Faults in how ``implicit_gemm_sm80.cu`` tells threads where their places of the depth lie."""

from __future__ import annotations

from tests.mutation.fault import Fault

TESTS = (
    "emulator/test_mma_cases.py",
    "emulator/test_mma.py",
    "emulator/test_mma_stage.py",
)


def _header(file: str, name: str, old: str, new: str, why: str) -> Fault:
    return Fault(f"mma-{name}", f"cuda_src/include/gpuconv/{file}.cuh", old, new, why, TESTS)


FAULTS = (
    _header(
        "mma/places", "table-unturned", "turned(writer_)", "writer_", "places are looked for where others lie"
    ),
    _header(
        "mma/places",
        "cursor-stays",
        "    cursor.next();\n    cursor.wait(",
        "    cursor.wait(",
        "every stage is the first",
    ),
    _header(
        "mma/places",
        "one-table",
        "tables()[stage & 1].taps",
        "tables()[0].taps",
        "taps of every other stage are the one before's",
    ),
    _header(
        "mma/places",
        "own-cursor-stays",
        "    if (!kSame) in_cursor_.next();\n",
        "",
        "cells are the first stage's where a thread has them elsewhere than taps",
    ),
    _header(
        "mma/places",
        "own-taps-stay",
        "    cursor.next();\n    return {tap};",
        "    return {tap};",
        "taps are the first stage's",
    ),
    _header(
        "mma/places",
        "own-places-one",
        "same_depths<InMap, TapsMap>(kThreads)",
        "true",
        "a thread looks for taps where its cells are",
    ),
    _header(
        "mma/places",
        "own-places-moved-on",
        "    const DepthPlace cell",
        "    in_cursor_.next();\n    const DepthPlace cell",
        "every second stage is left out",
    ),
    _header(
        "mma/places",
        "own-cells-unasked",
        "in_cursor_.cell(params_, stage > 0)",
        "in_cursor_.cell(params_, true)",
        "a part of a sum reads what is another's",
    ),
    _header(
        "mma/places",
        "own-taps-unasked",
        ".tap(params_, stage > 0)",
        ".tap(params_, true)",
        "a part of a sum reads another's taps",
    ),
    _header(
        "mma/tiles",
        "own-for-several",
        "kTabled = InMap::kDepths > 1 || TapsMap::kDepths > 1;",
        "kTabled = InMap::kDepths > 1;",
        "a thread's second place of the taps is its first",
    ),
    _header(
        "tile/depth",
        "sum-end-late",
        "return at.high < (ChannelsFirst ? rows : channels);",
        "return at.high <= (ChannelsFirst ? rows : channels);",
        "places beyond the end of the sum meet cells and taps",
    ),
    _header(
        "tile/depth",
        "taps-end-late",
        "return DepthOffset::of(bytes(params.taps_steps), wanted && inside());",
        "return DepthOffset::of(bytes(params.taps_steps), wanted);",
        "taps beyond the end of the sum are read",
    ),
)
