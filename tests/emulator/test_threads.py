"""Barriers, schedules, warps, and reports of threads that never meet."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest

from gpuconv.errors import LaunchError
from tests.emulator.conftest import PROBES
from tests.emulator.launcher import SCHEDULES, Emulator, Schedule

LANES = np.arange(64)


def line_of(file: str, text: str, after: str = "") -> int:
    """Number of the first line of a probe that holds `text`, behind one that holds `after`."""
    lines = (PROBES / "kernels" / f"{file}.cu").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if after in line)
    return next(i for i, line in enumerate(lines, 1) if i > start and text in line)


def on(schedule: Schedule) -> Emulator:
    return Emulator(schedule=schedule, sources=PROBES)


def test_there_are_four_schedules():
    assert sorted(map(str, SCHEDULES)) == ["forward-eager", "forward-lazy", "reverse-eager", "reverse-lazy"]


def test_order_of_threads_and_blocks(probe, schedule):
    out = probe("order", 0, 0, out=129, grid=2, block=64, emulator=on(schedule)).get()
    expected = np.arange(128)
    assert out[0] == 128
    np.testing.assert_array_equal(out[1:], expected[::-1] if schedule.reverse else expected)


@pytest.mark.parametrize("threads", [1, 31, 96, 1024])
def test_barriers(probe, schedule, threads):
    a = np.arange(threads, dtype=np.uint32) * 3
    out = probe(
        "rotate", 5, 0, a=a, out=threads, block=threads, smem=4 * threads, emulator=on(schedule)
    ).get()
    np.testing.assert_array_equal(out, np.roll(a, -5))


def test_a_missing_barrier_shows_under_one_order_or_the_other(probe):
    right = (LANES + 1) % 64
    forward = probe("race", 1, 0, block=64, emulator=on(Schedule(reverse=False))).get()
    reverse = probe("race", 1, 0, block=64, emulator=on(Schedule(reverse=True))).get()
    assert (forward == right).sum() == 1  # only the last thread's neighbour had written
    assert (reverse == right).sum() == 63
    for order in (False, True):
        fixed = probe("race", 1, 1, block=64, emulator=on(Schedule(reverse=order))).get()
        np.testing.assert_array_equal(fixed, right)


def test_divergent_barriers(probe):
    first = line_of("cells", "__syncthreads();", after="void divergent")
    second = line_of("cells", "} else {", after="void divergent") + 1
    with pytest.raises(LaunchError) as caught:
        probe("divergent", 20, 0)
    assert str(caught.value) == (
        "divergent: block (0,0,0) thread (20,0,0): divergent __syncthreads: 20 threads (0, 1, 2, 3, ...) "
        f"wait at cells.cu:{first} at cells.cu:{second}"
    )


@pytest.mark.parametrize("reverse", [False, True])
def test_barrier_that_some_threads_never_reach(probe, reverse):
    line = line_of("cells", "__syncthreads();", after="void early_exit")
    with pytest.raises(LaunchError) as caught:
        probe("early_exit", 1, 0, emulator=on(Schedule(reverse=reverse)))
    expected = (
        "thread (0,0,0): the thread exits, but 31 threads (1, 2, 3, 4, ...) wait in __syncthreads "
        f"at cells.cu:{line}"
        if reverse
        else "thread (1,0,0): __syncthreads after thread 0 exited"
    )
    assert expected in str(caught.value)
    assert str(caught.value).endswith(f"cells.cu:{line}")


def test_deadlock(probe):
    line = line_of("cells", "void deadlock")
    with pytest.raises(LaunchError) as caught:
        probe("deadlock", 0, 0, block=64)
    assert str(caught.value) == (
        "deadlock: block (0,0,0): no thread can run:\n"
        f"  63 threads (0, 1, 2, 3, ...) wait in __syncthreads at cells.cu:{line + 2}\n"
        f"  thread 32 waits in __syncwarp at cells.cu:{line + 1}"
    )


@pytest.mark.parametrize("width", [4, 16, 32])
@pytest.mark.parametrize("by", [0, 1, 3, 9, 31])
def test_shuffles(probe, schedule, width, by):
    """As the PTX ISA states shfl.sync: the source is in the lane's own segment, or the lane itself."""
    lane = np.arange(64) % 32
    warp = np.arange(64) - lane
    first, last = lane // width * width, lane // width * width + width - 1

    def pick(source, valid):
        return warp + np.where(valid, source, lane)

    everywhere = np.ones(64, bool)
    expected = {
        "shuffle_index": pick(first + by % width, everywhere),
        "shuffle_up": pick(lane - by, lane - by >= first),
        "shuffle_down": pick(lane + by, lane + by <= last),
        "shuffle_xor": pick(lane ^ by, (lane ^ by) <= last),
    }
    for entry, values in expected.items():
        out = probe(entry, by, width, file="warps", block=64, emulator=on(schedule)).get()
        np.testing.assert_array_equal(out, values, err_msg=entry)


def test_votes_and_sums(probe, schedule):
    vote = probe("vote", 5, 0, file="warps", block=64, emulator=on(schedule)).get()
    for warp in (0, 1):
        bits = sum(1 << lane for lane in range(32) if (32 * warp + lane) % 5 == 0)
        assert set(vote[32 * warp : 32 * warp + 32].tolist()) == {bits}
    total = probe("sum", 0, 0, file="warps", block=64, emulator=on(schedule)).get()
    assert total[:32].tolist() == [496] * 32
    assert total[32:].tolist() == [496 + 1024] * 32


def test_parts_of_a_warp_on_their_own(probe, schedule):
    out = probe("halves", 0, 0, file="warps", block=32, emulator=on(schedule)).get()[:32]
    assert out.tolist() == [0x0000AAAA] * 16 + [0xAAAA0000] * 16


def test_lanes_that_do_not_exist_are_not_waited_for(probe):
    out = probe("vote", 1, 0, file="warps", block=40).get()
    assert out[:32].tolist() == [0xFFFFFFFF] * 32
    assert out[32:40].tolist() == [0xFF] * 8


@pytest.mark.parametrize(
    ("entry", "n", "text"),
    [
        ("wrong_mask", 0, "thread (7,0,0): __syncwarp: lane 7 is not in its own mask 0xffffff7f"),
        (
            "two_masks",
            0,
            "thread (16,0,0): lane 16 is in __syncwarp with mask 0xffff0000, but lanes 0x0000ffff wait in "
            "__syncwarp with mask 0xffffffff",
        ),
        (
            "two_lines",
            0,
            "thread (16,0,0): lane 16 is in __syncwarp with mask 0xffffffff, but lanes 0x0000ffff",
        ),
        ("gone_lane", 9, "thread (0,0,0): __shfl_sync: lane 0 reads lane 9, which is not in it"),
    ],
)
def test_wrong_masks(probe, entry, n, text):
    with pytest.raises(LaunchError, match=re.escape(text) + r".* at warps\.cu:\d+$"):
        probe(entry, n, 32, file="warps")


def test_launches_of_two_threads(probe):
    a = np.arange(256, dtype=np.uint32)
    wrong: list[object] = []

    def work(turns: int) -> None:
        for _ in range(20):
            try:
                out = probe("rotate", turns, 0, a=a, out=256, block=256).get()
                if not np.array_equal(out, np.roll(a, -turns)):
                    wrong.append(out)
                with pytest.raises(LaunchError, match="trap"):
                    probe("trap", 0, 0)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(turns,)) for turns in (3, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
