"""Tiny steps for `test_gpu_check`: each misbehaves in one way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial

from bench.check.steps import Item, Skip, Step, Where
from gpuconv.errors import LaunchError
from tests.cases import Mismatch


def ran(where: Where, name: str) -> None:
    """Leave a trace, so that a test sees what ran how often."""
    with open(where.state.folder / "ran.txt", "a", encoding="ascii") as file:
        file.write(f"{name}\n")


def good(where: Where) -> Iterable[Item]:
    for name in "abc":
        yield Item(name, partial(ran, where, f"good {name}"))


def wrong(where: Where) -> Iterable[Item]:
    def fail() -> None:
        raise Mismatch(
            "2 is not 3", problem="a problem", config="a config", at=[[1]], got=["2"], expected=["3"]
        )

    yield Item("wrong", fail)
    yield Item("right", partial(ran, where, "wrong right"))


def absent(where: Where) -> Iterable[Item]:
    raise Skip("the tool is not on the path")


def partly(where: Where) -> Iterable[Item]:
    def skip() -> None:
        ran(where, "partly")
        raise Skip("bf16 needs ml_dtypes")

    yield Item("bf16", skip)


def crash(where: Where) -> Iterable[Item]:
    def die() -> None:
        ran(where, "crash killer")
        print("about to die", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)

    yield Item("first", partial(ran, where, "crash first"))
    yield Item("killer", die)
    yield Item("last", partial(ran, where, "crash last"))


def unlisted(where: Where) -> Iterable[Item]:
    raise RuntimeError("there is not even a list")


def hang(where: Where) -> Iterable[Item]:
    def sleep() -> None:
        ran(where, "hang")
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (where.state.folder / "child.pid").write_text(str(child.pid))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)

    yield Item("first", partial(ran, where, "hang first"))
    yield Item("sleeper", sleep)
    yield Item("last", partial(ran, where, "hang last"))


def lost(where: Where) -> Iterable[Item]:
    def lose() -> None:
        raise LaunchError("an illegal address was met")

    yield Item("loser", lose)
    yield Item("after", partial(ran, where, f"lost after {os.getpid()}"))


def asleep(where: Where) -> Iterable[Item]:
    def sleep() -> None:
        (where.state.folder / "asleep.pid").write_text(str(os.getpid()))
        time.sleep(600)

    yield Item("sleeper", sleep)


def cluster(where: Where) -> Iterable[Item]:
    def lose() -> None:
        raise LaunchError("an illegal address was met")

    for number in range(8):
        yield Item(f"bad {number}", lose, "bad")
    for number in range(3):
        yield Item(f"fine {number}", partial(ran, where, f"fine {number}"), "fine")


def slow(where: Where) -> Iterable[Item]:
    def wait(number: int) -> None:
        time.sleep(0.2)
        ran(where, f"slow {number}")

    for number in range(40):
        yield Item(f"item {number}", partial(wait, number))


def chatty(where: Where) -> Iterable[Item]:
    def talk() -> dict[str, str]:
        for _ in range(40):
            print("x" * 2**20)
        return {"report": "y" * 2**20}

    yield Item("talk", talk)


class Fake(Step):
    """Its items come from here."""

    def items(self, where: Where) -> Iterable[Item]:
        make: Callable[[Where], Iterable[Item]] = globals()[self.name]
        return make(where)


def step(name: str, seconds: float = 30, reserve: float = 0.1, late: float = 0.5) -> Step:
    """A step of this module."""
    return Fake(name, f"the {name} one", __name__, seconds, reserve, late)


STEPS = (
    step("asleep", seconds=1.5),
    step("crash"), step("unlisted"), step("hang", seconds=1.5), step("good"), step("wrong"), step("absent"),
    step("partly"), step("lost"), step("slow", seconds=2), step("chatty"),
    step("cluster"),
)  # fmt: skip
