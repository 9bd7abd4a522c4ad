"""A tuning store that cannot be used, by others, links or full disks: right results, and it is said once."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gpuconv import conv2d, store
from gpuconv.backend import device, folders
from gpuconv.store_file import decode

from .stored import CARD, CPU, entry, fresh, one_warning, path_of, problem

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    fresh(monkeypatch, tmp_path / "cache")
    return tmp_path / "cache" / "tuning"


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
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir())) if descriptors.is_dir() else 0
    assert kept_in_memory("is no file")[0] is None
    assert before == (len(list(descriptors.iterdir())) if before else 0)


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
        files = sorted(path.name for path in store.folder().iterdir())
        print(len(said), all((right == one).all() for one in found), len(store.entries(device.cpu())), files)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1 True 2 ['cpu.searching', 'lock']", done.stdout + done.stderr


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
