"""The tuning store gives back what was put there, the user's own over what is shipped."""

from __future__ import annotations

import ast
import json
import os
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import gpuconv
from gpuconv import store, store_file
from gpuconv.backend import folders
from gpuconv.store_file import decode, device_facts, encode, file_name

from .stored import CARD, CPU, entry, fresh, lines, path_of, problem, sealed

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    fresh(monkeypatch, tmp_path / "cache")
    return tmp_path / "cache" / "tuning"


def test_what_is_put_comes_back(folder):
    assert store.find(problem(1), CPU) is None
    one, two = entry(1), entry(2, us=0.1 + 0.2, config={}, compiler='nvrtc "13.0" \\')
    assert store.put(CPU, [one, two])
    for _ in range(2):
        assert store.find(problem(1), CPU) == one
        assert store.find(problem(2), CPU) == two
        assert store.find(problem(3), CPU) is None
        assert store.find(problem(1), CARD) is None
        assert dict(store.entries(CPU)) == {problem(1): one, problem(2): two}
        store.forget()  # as another process would
    assert {path.name for path in folder.iterdir()} == {path_of(CPU).name, "lock"}
    assert store.put(CPU, [])


def test_what_the_types_allow_comes_back_as_it_was():
    config = {"a": -(2**53) + 1, "b" * 40: 0}
    found = entry(0, us=1, default_us=2.9e12, digest="", config=config, kernel="k" * 64)
    assert store.put(CPU, [found])
    assert store.find(problem(0), CPU) == found
    store.forget()
    again = store.find(problem(0), CPU)
    assert again == found
    assert type(again.us) is float


@posix
def test_only_the_user_may_read_it(folder):
    before = os.umask(0)
    try:
        store.put(CPU, [entry()])
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder.parent, folder, *folder.iterdir())]
    assert modes == [0o700, 0o700, 0o600, 0o600]


def test_the_file_is_json_and_its_name_a_digest():
    store.put(CARD, [entry(2), entry(1)])
    path = path_of(CARD)
    assert len(path.stem) == 64
    assert set(path.stem) <= set("0123456789abcdef")
    document = json.loads(path.read_text(encoding="ascii"))
    assert document["schema"] == 1
    assert document["device"] == device_facts(CARD)
    assert document["entries"][0] == {
        "problem": str(problem(1)),
        "kernel": "cpu_made_up",
        "config": {"block_kib": 256, "lanes": 2},
        "us": 10.5,
        "default_us": 21.0,
        "default": "cpu_other(block_kib=128)",
        "strategy": "heuristic",
        "budget": 8.0,
        "left": 0,
        "digest": "0123abcd" * 8,
        "compiler": "",
        "date": "2026-01-31T12:00:00+00:00",
    }


def test_neither_import_nor_reading_creates_anything(folder):
    code = """if True:
        import sys
        from gpuconv import store
        from gpuconv.backend.device import Device
        from gpuconv.problem import ConvProblem
        assert store._stores == {}
        p = ConvProblem.parse("fprop_n1c8h12w12k8r3s3p1_nchw_f32")
        print(store.find(p, Device("cpu", "x")), {"filelock", "pickle"} & set(sys.modules) - before)
    """
    code = "import sys, numpy; before = set(sys.modules);" + code.replace("if True:", "", 1).replace(
        "\n        ", "\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "set()"]
    assert not folder.parent.exists()


@pytest.mark.parametrize("device", [CPU, CARD], ids=lambda device: device.kind)
def test_devices_that_differ_in_any_fact_are_others(device):
    other = {"name": "Another", "threads": 3, "numpy": "2.1", "blas": "other", "kind": "cuda"}
    if device is CARD:
        other = {"name": "Another", "capability": (9, 1), "kind": "cpu"}
        other |= dict.fromkeys(("sms", "smem_block", "smem_sm", "l2_bytes"), 1)
    assert set(device_facts(device)) == set(other)
    store.put(device, [entry()])
    for name, value in other.items():
        assert store.find(problem(1), replace(device, **{name: value})) is None
    assert store.find(problem(1), replace(device, index=1)) == entry()


def test_a_device_of_any_name_has_a_store():
    for name in ("", "тест\ud800\x1b[31m\n" * 300, "../../etc", '"\\'):
        device = replace(CPU, name=name)
        store.put(device, [entry()])
        store.forget()
        assert store.find(problem(1), device) == entry()


def test_the_newer_stays_and_among_equals_ours():
    early, late = entry(us=1.0), entry(us=2.0, date="2026-02-01T00:00:00+00:00")
    for first, second, stays in (
        (early, late, late),
        (late, early, late),
        (early, entry(us=3.0), entry(us=3.0)),
    ):
        assert store.put(CPU, [first])
        assert store.put(CPU, [second])
        assert store.find(problem(1), CPU) == stays
        path_of(CPU).unlink()
    store.put(CPU, [late, early])
    assert store.find(problem(1), CPU) == late


def test_a_date_in_the_far_future_does_not_stay_for_ever():
    store.put(CPU, [entry(us=1.0, date="2999-01-01T00:00:00+00:00")])
    store.put(CPU, [entry(us=2.0)])
    assert store.find(problem(1), CPU).us == 2.0


def test_what_another_process_writes_is_seen(folder):
    store.put(CPU, [entry(1)])
    assert store.find(problem(2), CPU) is None
    other = encode(device_facts(CPU), lines(1, 2, 3))
    folders.write(path_of(CPU), other)
    assert store.find(problem(2), CPU) == entry(2)
    store.put(CPU, [entry(4)])
    assert len(decode(path_of(CPU).read_bytes()).lines) == 4
    path_of(CPU).unlink()
    assert dict(store.entries(CPU)) == {}


def test_once_read_a_look_costs_one_stat(monkeypatch):
    store.put(CPU, [entry()])
    store.find(problem(1), CPU)
    looks, stat_ = [], os.stat

    def counted(*args, **options):
        looks.append(args)
        return stat_(*args, **options)

    def none(*args, **options):
        raise AssertionError("read again")

    monkeypatch.setattr(os, "stat", counted)
    monkeypatch.setattr(os, "open", none)
    assert store.find(problem(1), CPU) == entry()
    assert len(looks) == 1


def test_putting_what_is_there_writes_nothing(monkeypatch):
    store.put(CPU, [entry()])
    monkeypatch.setattr(folders, "write", lambda *args, **how: pytest.fail("written again"))
    assert store.put(CPU, [entry(date="2020-01-01T00:00:00+00:00"), entry()])


def shipped(monkeypatch, tmp_path, data, device=CPU):
    place = tmp_path / "shipped"
    place.mkdir(exist_ok=True)
    path = place / file_name(device_facts(device))
    path.write_bytes(data)
    monkeypatch.setattr(store, "SHIPPED", place)
    store.forget()
    return path


def test_the_users_own_lies_over_what_is_shipped(monkeypatch, tmp_path):
    data = sealed(lines(1, 2))
    path = shipped(monkeypatch, tmp_path, data)
    assert dict(store.entries(CPU)) == {problem(1): entry(1), problem(2): entry(2)}
    own = entry(1, us=99.0, date="2020-01-01T00:00:00+00:00")  # older, and still the user's own
    store.put(CPU, [own])
    assert dict(store.entries(CPU)) == {problem(1): own, problem(2): entry(2)}
    assert path.read_bytes() == data
    assert list(decode(path_of(CPU).read_bytes()).entries) == [problem(1)]
    assert store.find(problem(1), CARD) is None


@pytest.mark.parametrize("data", [b"", sealed(lines(1))[:-1], sealed(lines(1), CARD)])
def test_a_shipped_store_that_is_damaged_is_a_miss(monkeypatch, tmp_path, data):
    shipped(monkeypatch, tmp_path, data)
    with pytest.warns(RuntimeWarning, match="it is not used") as said:
        assert [store.find(problem(1), CPU) for _ in range(3)] == [None] * 3
    assert len(said) == 1


WRONG = [
    {"problem": "fprop_n1c8h12w12k8r3s3p1_nchw_f32"},
    *({"kernel": kernel} for kernel in ("", "a b", "../x", "K", "k" * 65, "k\n", None, 1)),
    *({"config": config} for config in ([], {"a": True}, {"a": 1.0}, {"a": "1"}, {"A": 1}, {"a": 2**53})),
    *({"config": config} for config in ({"": 1}, {"a-b": 1}, {f"a{i}": 1 for i in range(33)}, {1: 1})),
    *({"us": us} for us in (0, 0.0, -1.0, float("nan"), float("inf"), True, "1", None, 10**400, 1e13)),
    *({"default_us": us} for us in (0, -0.0, float("-inf"), None)),
    *({"digest": text} for text in ("é", "a\n", "a" * 401, None, b"")),
    *({"compiler": text} for text in ("\x1b[0m", 13)),
    *(
        {"date": text}
        for text in ("", "2026-01-31", "2026-01-31T12:00:00", "2026-13-31T12:00:00+00:00", None)
    ),
    {"date": "2026-01-31T12:00:00+01:00"},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_what_could_not_be_read_back_is_not_put(wrong, folder):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} (is not right|must be)"):
        store.put(CPU, [entry(1), replace(entry(2), **wrong)])
    assert not folder.exists()
    assert store.find(problem(1), CPU) is None


def test_the_oldest_make_room(monkeypatch):
    monkeypatch.setattr(store_file, "MOST_ENTRIES", 5)
    for number in (3, 1, 6, 2, 5, 4, 7):
        assert store.put(CPU, [entry(number, date=f"2026-01-0{number}T00:00:00+00:00")])
    assert sorted(p.N for p in store.entries(CPU)) == [3, 4, 5, 6, 7]
    monkeypatch.setattr(store_file, "MOST_ENTRIES", 50)
    monkeypatch.setattr(store_file, "MOST_BYTES", 2 * store_file._MOST_LINE + 3 * (len(lines(1)[0]) + 2))
    assert store.put(CPU, [entry(8, date="2026-01-08T00:00:00+00:00")])
    assert sorted(p.N for p in store.entries(CPU)) == [6, 7, 8]


def test_threads_lose_nothing():
    def work(number):
        for step in range(20):
            assert store.put(CPU, [entry(100 * number + step)])
            assert store.find(problem(100 * number + step), CPU) is not None

    failures = []

    def caught(number):
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=caught, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(decode(path_of(CPU).read_bytes()).lines) == 160


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_child_is_not_held_up_by_threads_it_does_not_have():
    store.put(CPU, [entry(1)])
    held, done = threading.Event(), threading.Event()

    def hold():
        with store._lock, store._writing:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    child = os.fork()
    if child == 0:
        right = store.put(CPU, [entry(2)]) and store.find(problem(1), CPU) is not None
        os._exit(0 if right else 1)
    for _ in range(1000):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        done.wait(0.01)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        status = -1
    done.set()
    thread.join()
    assert status == 0
    assert store.find(problem(2), CPU) == entry(2)


FILES = [path for path in Path(gpuconv.__file__).parent.rglob("*.py") if "_cuda_src" not in path.parts]
STRANGE = {"pickle", "cPickle", "_pickle", "dill", "marshal", "shelve", "cloudpickle", "joblib"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_text_becomes_code(path):
    """No pickle, marshal or shelve, and no eval, exec or compile, in the whole package."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & STRANGE
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in STRANGE
        elif isinstance(node, ast.Name):
            assert node.id not in ("eval", "exec", "compile", "__import__"), f"{path}:{node.lineno}"
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False


def test_a_clock_that_was_ahead_does_not_keep_what_is_found_out():
    ahead = (datetime.now(UTC) + timedelta(hours=2)).isoformat(timespec="seconds")
    store.put(CPU, [entry(1, us=5.0, date=ahead)])
    assert store.find(problem(1), CPU).us == 5.0
    store.put(CPU, [entry(1, us=6.0, date=datetime.now(UTC).isoformat(timespec="seconds"))])
    assert store.find(problem(1), CPU).us == 6.0
    assert store.unwritten(CPU) == 0
