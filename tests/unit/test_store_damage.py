"""Whatever has become of a tuning store, nothing comes out that was not put in, and never an exception."""

from __future__ import annotations

import os
import random

import pytest

from gpuconv import store, store_file
from gpuconv.store_file import Refused, decode, line_of

from .stored import CARD, CPU, entry, fresh, lines, one_warning, path_of, problem, sealed, under_digest

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    fresh(monkeypatch, tmp_path / "cache")
    return tmp_path / "cache" / "tuning"


def all_missed(files):
    """Whatever the file becomes, nothing is found in it, which is said once."""

    def work():
        count = 0
        for data in files:
            path_of(CPU).write_bytes(data)
            store.forget()
            assert dict(store.entries(CPU)) == {}
            count += 1
        return count

    return one_warning("it is not used", work)


def test_truncation_at_every_byte_is_a_miss():
    store.put(CPU, [entry(1), entry(2)])
    whole = path_of(CPU).read_bytes()
    files = [*(whole[:length] for length in range(len(whole))), whole + b"\0", whole + b"\n", whole * 2]
    assert all_missed(files) > 700
    path_of(CPU).write_bytes(whole)
    store.forget()
    assert len(store.entries(CPU)) == 2


def test_a_thousand_flipped_bits_are_misses():
    store.put(CPU, [entry(1), entry(2)])
    whole = path_of(CPU).read_bytes()
    draw = random.Random(0)

    def flipped():
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        return bytes(damaged)

    assert all_missed(flipped() for _ in range(1000)) == 1000


def test_flipped_bits_under_a_right_digest_lead_to_nothing_but_well_formed_entries():
    """The digest guards against accidents; who computes it anew is held by the types alone."""
    good = lines(1)[0]
    draw = random.Random(1)
    read = 0
    for _ in range(1000):
        damaged = bytearray(good)
        damaged[draw.randrange(len(good))] ^= 1 << draw.randrange(8)
        try:
            content = decode(sealed([bytes(damaged)]))
        except Refused:
            continue
        for line, found in content.lines.items():
            assert line == damaged == line_of(found)
            read += 1
    assert 0 < read < 1000


def replaced(old, new):
    line = lines(2)[0]
    assert line.count(old) == 1, old
    return line.replace(old, new)


BAD_LINES = {
    "empty": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "null": b"null",
    "not UTF-8": replaced(b"cpu_made_up", b"cpu_\xff"),
    "a space": replaced(b'"kernel":', b'"kernel": '),
    "an escape": replaced(b"cpu_made_up", b"cpu_made_\\u0075p"),
    "a boolean": replaced(b'"lanes":2', b'"lanes":true'),
    "a float": replaced(b'"lanes":2', b'"lanes":2.0'),
    "a huge integer": replaced(b'"lanes":2', b'"lanes":' + b"9" * 3000),
    "a huge time": replaced(b"10.5", b"9" * 3000),
    "an integer time": replaced(b"10.5", b"10"),
    "another spelling": replaced(b"10.5", b"10.50"),
    "NaN": replaced(b"10.5", b"NaN"),
    "infinity": replaced(b"10.5", b"1e999"),
    "negative": replaced(b"10.5", b"-10.5"),
    "zero": replaced(b"21.0", b"0.0"),
    "text for a time": replaced(b"10.5", b'"10.5"'),
    "deep": replaced(b"10.5", b"[" * 1500 + b"]" * 1500),
    "too long": replaced(b"0123abcd" * 8, b"0" * 5000),
    "a doubled name": replaced(b'"us":10.5', b'"us":10.5,"us":10.5'),
    "a doubled field": replaced(b'"lanes":2', b'"lanes":2,"lanes":2'),
    "one more": replaced(b'"us":10.5', b'"us":10.5,"more":1'),
    "one fewer": replaced(b'"us":10.5,', b""),
    "no problem": replaced(b"fprop_n2", b"fprop_nx"),
    "an impossible problem": replaced(b"r3s3p1", b"r99s99p1"),
    "a problem in other words": replaced(b"r3s3p1", b"r3s3p1x1"),
    "a problem with a space": replaced(b"fprop_n2", b" fprop_n2"),
    "a number for a problem": replaced(str(problem(2)).encode().join([b'"', b'"']), b"2"),
    "a kernel that is a path": replaced(b"cpu_made_up", b"../made_up"),
    "a field that is a flag": replaced(b'"lanes"', b'"-DX"'),
    "no date": replaced(b"2026-01-31T", b"2026-02-31T"),
    "a control character": replaced(b'"compiler":""', b'"compiler":"\\u001b"'),
    "the same problem": lines(1)[0].replace(b"10.5", b"11.5"),
}


@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES.keys())
@pytest.mark.parametrize("at", [1, 2])
def test_one_bad_entry_is_a_miss_for_itself_alone(folder, bad, at):
    folder.mkdir(parents=True, mode=0o700)
    written = lines(1, 3)
    written.insert(at, bad)
    path_of(CPU).write_bytes(sealed(written))
    found = one_warning(f"not used: entry {at + 1}: ", lambda: [dict(store.entries(CPU)) for _ in range(3)])
    assert found == [{problem(1): entry(1), problem(3): entry(3)}] * 3
    assert store.put(CPU, [entry(4)])  # which leaves the bad one out
    assert sorted(p.N for p in decode(path_of(CPU).read_bytes()).entries) == [1, 3, 4]


HEAD = sealed([]).split(b"\n")[1]
BAD_FILES = {
    "another version": under_digest(sealed(lines(1)).partition(b"\n")[2], schema=2),
    "another device": sealed(lines(1), CARD),
    "a device that is a list": sealed(lines(1), head=b'"device":[],'),
    "no device": sealed(lines(1), head=b'"device":{},'),
    "a device without kind": sealed(lines(1), head=HEAD.replace(b'"kind":"cpu"', b'"kind":"tpu"')),
    "a deep device": sealed(lines(1), head=b'"device":' + b"[" * 2000 + b"]" * 2000 + b","),
    "a device of no threads": sealed(lines(1), head=HEAD.replace(b'"threads":2', b'"threads":-2')),
    "a device of infinite threads": sealed(lines(1), head=HEAD.replace(b":2,", b":Infinity,")),
    "a device in other words": sealed(lines(1), head=HEAD.replace(b'"kind":', b'"kind": ')),
    "not UTF-8": sealed(lines(1), head=HEAD.replace(b"Made", b"\xff")),
    "another word": under_digest(sealed(lines(1)).partition(b"\n")[2].replace(b'"entries"', b'"entry"')),
    "no end": under_digest(sealed(lines(1)).partition(b"\n")[2].removesuffix(b"]}\n")),
    "one line": under_digest(b"{}"),
    "nothing": under_digest(b""),
    "zeros": bytes(2000),
    "a list": b"[1, 2]\n",
    "no digest": b'{"schema":1}\n',
}


@pytest.mark.parametrize("data", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_what_is_wrong_as_a_whole_is_a_miss_and_written_anew(folder, data):
    folder.mkdir(parents=True, mode=0o700)
    path_of(CPU).write_bytes(data)

    def work():
        found = [store.find(problem(1), CPU) for _ in range(3)]
        return [*found, store.put(CPU, [entry(2)])]

    assert one_warning("it is not used", work) == [None, None, None, True]
    assert dict(store.entries(CPU)) == {problem(2): entry(2)}


def test_a_file_that_is_too_large_is_a_miss(monkeypatch, folder):
    store.put(CPU, [entry(number) for number in range(20)])
    monkeypatch.setattr(store, "MOST_BYTES", 2000)
    monkeypatch.setattr(store_file, "MOST_BYTES", 2000)
    store.forget()
    assert one_warning("is larger than", lambda: store.find(problem(1), CPU)) is None
    monkeypatch.undo()
    fresh(monkeypatch, folder.parent)
    monkeypatch.setattr(store_file, "MOST_ENTRIES", 7)
    found = one_warning("entry 8: more than 7 entries", lambda: dict(store.entries(CPU)))
    assert len(found) == 7
