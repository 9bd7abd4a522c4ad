"""Whatever has become of a tuning store, nothing comes out that was not put in, and never an exception."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from gpuconv import conv2d, store, store_file
from gpuconv.backend import device, folders
from gpuconv.store_file import Refused, decode, line_of

from .stored import CARD, CPU, entry, fresh, lines, path_of, problem, sealed, under_digest

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    fresh(monkeypatch, tmp_path / "cache")
    return tmp_path / "cache" / "tuning"


def one_warning(match, work):
    """What work gives, which warns once."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = work()
    assert len(said) == 1, [str(one.message) for one in said]
    assert said[0].category is RuntimeWarning
    assert match in str(said[0].message)
    return found


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


def kept_in_memory(why):
    """Neither reading nor writing works, which is said once; what was put counts all the same."""

    def work():
        before = store.find(problem(1), CPU)
        put = [store.put(CPU, [entry(number)]) for number in (7, 8)]
        return before, put, dict(store.entries(CPU))

    before, put, known = one_warning(why, work)
    assert put == [False, False]
    assert known[problem(7)] == entry(7)
    assert known[problem(8)] == entry(8)
    return before, known


@posix
@pytest.mark.parametrize("what", ["folder", "file"])
@pytest.mark.parametrize("mode", [0o020, 0o002, 0o077])
def test_what_others_can_write_is_refused(folder, what, mode):
    store.put(CPU, [entry(1)])
    store.forget()
    place = folder if what == "folder" else path_of(CPU)
    right = place.stat().st_mode
    place.chmod(right | mode)
    data = path_of(CPU).read_bytes()
    before, known = kept_in_memory("can be written by others")
    assert before is None
    assert set(known) == {problem(7), problem(8)}
    assert path_of(CPU).read_bytes() == data
    place.chmod(right | 0o044)  # that others can read it does no harm
    assert store.put(CPU, [entry(9)])
    assert len(decode(path_of(CPU).read_bytes()).lines) == 4


@posix
@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_belongs_to_another_user_is_refused(monkeypatch, folder, what):
    store.put(CPU, [entry(1)])
    data = path_of(CPU).read_bytes()
    assert store.find(problem(1), CPU) is not None
    if os.geteuid() == 0:
        os.chown(folder if what == "folder" else path_of(CPU), 12345, 12345)
        os.utime(path_of(CPU))
    else:
        store.forget()
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    before, known = kept_in_memory("belongs to another user")
    assert before is None
    assert set(known) == {problem(7), problem(8)}
    assert path_of(CPU).read_bytes() == data


@posix
def test_a_link_is_refused(folder, tmp_path):
    store.put(CPU, [entry(1)])
    elsewhere = tmp_path / "elsewhere"
    path_of(CPU).rename(elsewhere)
    path_of(CPU).symlink_to(elsewhere)
    data = elsewhere.read_bytes()
    assert kept_in_memory("is a link")[0] is None
    assert elsewhere.read_bytes() == data
    assert path_of(CPU).is_symlink()


@posix
@pytest.mark.parametrize("what", ["a folder", "a pipe"])
def test_no_file_in_its_place(folder, what):
    folder.mkdir(parents=True, mode=0o700)
    if what == "a pipe":
        os.mkfifo(path_of(CPU), 0o600)  # whose other end nobody ever opens
    else:
        path_of(CPU).mkdir(mode=0o700)
    assert kept_in_memory("is no file")[0] is None


@pytest.mark.parametrize("place", ["cache", "cache/tuning"])
def test_a_file_in_the_folders_place(tmp_path, place):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("")
    kept_in_memory("cache")


@posix
def test_a_folder_that_cannot_be(monkeypatch):
    monkeypatch.setenv("GPUCONV_CACHE_DIR", "/dev/null/cache")
    kept_in_memory("/dev/null")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("where", ["mkdir", "mkstemp", "open", "fsync", "replace"])
def test_a_disk_that_is_full_or_read_only(monkeypatch, folder, code, where):
    store.put(CPU, [entry(1)])
    data = path_of(CPU).read_bytes()

    def fail(*args, **options):
        raise OSError(code, os.strerror(code))

    owner = {"mkdir": Path, "mkstemp": folders.tempfile, "open": folders}.get(where, os)
    with monkeypatch.context() as patch:
        patch.setattr(owner, where, fail, raising=where != "open")
        before, known = kept_in_memory(os.strerror(code))
    assert before == entry(1)
    assert set(known) == {problem(1), problem(7), problem(8)}
    assert path_of(CPU).read_bytes() == data
    assert {path.name for path in folder.iterdir()} == {path_of(CPU).name, "lock"}
    assert store.put(CPU, [])  # and when there is room again, all are written
    store.forget()
    assert set(store.entries(CPU)) == {problem(1), problem(7), problem(8)}


@posix
def test_reading_that_fails_for_a_while_is_tried_again(monkeypatch):
    store.put(CPU, [entry(1)])
    store.forget()

    def fail(*args, **options):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        assert one_warning("Too many open files", lambda: store.find(problem(1), CPU)) is None
    assert store.find(problem(1), CPU) == entry(1)


@posix
def test_a_full_disk_gives_the_right_result_with_one_warning(folder):
    """The limit of a file's size stands for the disk's."""
    code = """if True:
        import resource, signal, warnings
        import numpy as np
        import gpuconv
        from gpuconv import conv2d, store
        from gpuconv.backend import device
        x = np.arange(2 * 3 * 8 * 8, dtype="f").reshape(2, 3, 8, 8) % 7
        w = np.arange(4 * 3 * 3 * 3, dtype="f").reshape(4, 3, 3, 3) % 5
        right = conv2d(x, w)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            with gpuconv.tuning(budget=0.05):
                found = [conv2d(x, w), conv2d(x, w, padding=1)[:, :, 1:-1, 1:-1]]
        files = [path.name for path in store.folder().iterdir()]
        print(len(said), all((right == one).all() for one in found), len(store.entries(device.cpu())), files)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1 True 2 ['lock']", done.stdout + done.stderr


def test_a_damaged_store_gives_the_right_result_with_one_warning(monkeypatch, folder):
    from gpuconv import calls, dispatch

    monkeypatch.setattr(calls, "_plans", {})
    monkeypatch.setattr(dispatch, "_choices", {})
    folder.mkdir(parents=True, mode=0o700)
    path_of(device.cpu()).write_bytes(b"damaged")
    x, w = np.ones((1, 1, 5, 5), "f"), np.ones((1, 1, 3, 3), "f")
    found = one_warning("is damaged", lambda: [conv2d(x, w, padding=pad).max() for pad in (0, 1, 2)])
    assert found == [9, 9, 9]


def test_a_lock_that_is_kept_for_too_long(monkeypatch, folder):
    import filelock

    folder.mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(store, "_PATIENCE", 1.5)
    monkeypatch.setattr(store, "_IMPATIENCE", 0.05)
    begin = time.monotonic()
    with filelock.FileLock(folder / "lock"):
        kept_in_memory("was kept by another process for 1.5 s")
    assert 1.5 < time.monotonic() - begin < 2.9  # the second put has waited for a moment only
    assert store._in_vain == {folder}
    assert store.put(CPU, [])
    assert store._in_vain == set()
    assert len(decode(path_of(CPU).read_bytes()).lines) == 2


@pytest.mark.parametrize("missing", ["filelock", "platformdirs"])
def test_without_a_library_results_stay_in_memory(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    if missing == "platformdirs":
        monkeypatch.delenv("GPUCONV_CACHE_DIR")
        monkeypatch.setattr(store, "folder", lambda: folders.root() / "tuning")  # not the tests' own
    kept_in_memory(missing)


class Windows:
    """Of a system whose folders have access lists, without users' numbers, flags of links, and fork."""

    name = "nt"

    def __getattr__(self, name):
        if name in ("geteuid", "O_NOFOLLOW", "O_NONBLOCK", "register_at_fork"):
            raise AttributeError(name)
        return getattr(os, name)


def test_a_system_that_lacks_what_others_have(monkeypatch):
    code = Path(store.__file__).read_text(encoding="utf-8")
    assert {word for word in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY") if f"os.{word}" in code} == set()
    assert "fcntl" not in code
    for module in (folders, store):
        monkeypatch.setattr(module, "os", Windows())
    monkeypatch.setattr(store, "_FLAGS", os.O_RDONLY)
    assert store.put(CPU, [entry(1)])
    path_of(CPU).chmod(0o666)  # bits that mean nothing there
    assert store.find(problem(1), CPU) == entry(1)
    path_of(CPU).rename(path_of(CARD))
    path_of(CPU).symlink_to(path_of(CARD))
    assert one_warning("is a link", lambda: store.find(problem(1), CPU)) is None


def test_leftovers_are_removed_once_they_are_old(folder):
    folder.mkdir(parents=True, mode=0o700)
    for name, age in (("old.tmp", 2 * 3600), ("new.tmp", 60), ("old.json", 2 * 3600)):
        (folder / name).write_bytes(b"")
        os.utime(folder / name, (time.time() - age,) * 2)
    store.put(CPU, [entry()])
    left = {path.name for path in folder.iterdir()}
    assert left == {"new.tmp", "old.json", "lock", path_of(CPU).name}
