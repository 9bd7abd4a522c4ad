"""What the GPU check's correctness step runs, on the emulator."""

from __future__ import annotations

import pytest

from bench.check import correctness, patching
from bench.check.state import State
from bench.check.steps import Skip, Where
from gpuconv.backend import jit
from tests.cases import Mismatch
from tests.emulator.machine import EmulatedMachine
from tests.problems import DTYPES


@pytest.fixture
def machine(has_compiler):
    return EmulatedMachine()


@pytest.mark.parametrize("name", patching.KINDS)
@pytest.mark.parametrize("text", patching.PROBLEMS)
def test_patches_are_exact(machine, text, name):
    dtype = text.rpartition("_")[2]
    if dtype not in DTYPES:
        with pytest.raises(Skip, match="needs ml_dtypes"):
            patching.check(name, text, machine)
        return
    assert patching.check(name, text, machine) == {"kind": ["cuda_unfold", name, dtype]}


@pytest.mark.parametrize("name", patching.KINDS)
def test_a_wrong_cell_is_a_mismatch(has_compiler, name):
    class Machine(EmulatedMachine):
        def get(self, array):
            found = array.get()
            found.reshape(-1)[-1] += 1
            return found

    with pytest.raises(Mismatch) as caught:
        patching.check(name, patching.PROBLEMS[0], Machine())
    assert caught.value.details["wrong"] == 1
    assert caught.value.details["kind"] == ["cuda_unfold", name, "f16"]


def test_only_what_will_run_is_compiled_and_in_lots(machine, tmp_path, monkeypatch):
    class There(Where):
        """As on a GPU, as far as listing goes."""

    where = There(State(tmp_path), "abc1234", False)
    where.__dict__["machine"] = machine
    items = list(correctness.items(where))
    lots = [item for item in items if item.key.startswith("compile")]
    assert len(lots) > 3
    assert items[0] is lots[0]
    assert len({item.key for item in items}) == len(items)
    compiled = []
    monkeypatch.setattr(jit, "compile_all", compiled.extend)
    first = [item.key for item in items[1 : items.index(lots[1])]]
    assert 0 < lots[0].run()["binaries"] == len(compiled)
    for key in first:
        how = {"status": "passed", "note": "", "seconds": 0, "data": {}}
        where.state.append(kind="end", step="correctness", item=key, **how)
    compiled.clear()
    assert lots[0].run()["binaries"] == 0
    monkeypatch.setattr(correctness.problems, "DTYPES", ())
    assert lots[1].run()["binaries"] == 0
    assert not compiled
