"""The cache of compiled kernels gives back what was put there, or nothing, and never an exception."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import stat
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from gpuconv.backend import cache, folders

KEY = "0123456789abcdef" * 4
PAYLOAD = bytes(range(64))
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """An empty cache, in a process that has said nothing yet."""
    monkeypatch.setenv("GPUCONV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(folders, "_said", {})
    monkeypatch.setattr(folders, "_swept", set())
    return tmp_path / "cache" / "cubins"


def entry(folder):
    return folder / f"{KEY}.cubin"


def test_what_is_put_comes_back(folder):
    assert cache.get(KEY) is None
    for payload in (PAYLOAD, b"", b"another"):
        cache.put(KEY, payload)
        assert cache.get(KEY) == payload
    assert cache.get(KEY[::-1]) is None
    assert [path.name for path in folder.iterdir()] == [f"{KEY}.cubin"]


@posix
def test_only_the_user_may_read_it(folder):
    before = os.umask(0)
    try:
        cache.put(KEY, PAYLOAD)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder.parent, folder, entry(folder))]
    assert modes == [0o700, 0o700, 0o600]


def test_reading_creates_nothing(folder):
    cache.get(KEY)
    assert not folder.parent.exists()


def test_without_the_variable_it_is_the_users_cache(monkeypatch):
    monkeypatch.delenv("GPUCONV_CACHE_DIR")
    assert cache.folder().name == "cubins"
    assert "gpuconv" in cache.folder().parts


def all_missed(folder, files):
    """Whatever the entry's file becomes, nothing is found, which is said once."""

    def found():
        for data in files:
            entry(folder).write_bytes(data)
            yield cache.get(KEY)

    with pytest.warns(RuntimeWarning, match="damaged and is written anew") as said:
        missed = [payload is None for payload in found()]
    assert all(missed)
    assert len(said) == 1
    return len(missed)


def test_truncation_at_every_byte_is_a_miss(folder):
    cache.put(KEY, PAYLOAD)
    whole = entry(folder).read_bytes()
    files = [*(whole[:length] for length in range(len(whole))), whole + b"\0"]
    assert all_missed(folder, files) > len(PAYLOAD)
    cache.put(KEY, PAYLOAD)
    assert cache.get(KEY) == PAYLOAD


def test_a_thousand_flipped_bits_are_misses(folder):
    cache.put(KEY, PAYLOAD)
    whole = entry(folder).read_bytes()
    draw = random.Random(0)

    def flipped():
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        return damaged

    assert all_missed(folder, [flipped() for _ in range(1000)]) == 1000


def test_another_kernels_file_is_a_miss(folder):
    cache.put(KEY, PAYLOAD)
    entry(folder).rename(folder / f"{KEY[::-1]}.cubin")
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert cache.get(KEY[::-1]) is None


def unusable(match):
    """Neither reading nor writing works, which is said once."""
    with pytest.warns(RuntimeWarning, match=f"kept in memory only: .*{match}") as said:
        found = [cache.put(KEY, PAYLOAD), cache.put(KEY, PAYLOAD), cache.get(KEY)]
    assert found == [None, None, None]
    assert len(said) == 1


@posix
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_can_write_is_refused(folder, mode):
    cache.put(KEY, PAYLOAD)
    folder.chmod(mode)
    unusable("can be written by others")
    folder.chmod(0o755)  # that others can read it does no harm
    assert cache.get(KEY) == PAYLOAD


@posix
def test_a_folder_of_another_user_is_refused(monkeypatch, folder):
    cache.put(KEY, PAYLOAD)
    if os.geteuid() == 0:
        os.chown(folder, 12345, 12345)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    unusable("belongs to another user")


@pytest.mark.parametrize("place", ["cache", "cache/cubins"])
def test_a_file_in_the_folders_place(tmp_path, place):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("")
    unusable(r"cache")


def test_a_folder_that_cannot_be(monkeypatch):
    monkeypatch.setenv("GPUCONV_CACHE_DIR", "/dev/null/cache")
    unusable("/dev/null")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("where", ["mkdir", "mkstemp", "open", "replace"])
def test_failing_writes(monkeypatch, folder, code, where):
    def fail(*args, **options):
        raise OSError(code, os.strerror(code))

    owner = {"mkdir": Path, "mkstemp": folders.tempfile, "open": folders, "replace": os}[where]
    monkeypatch.setattr(owner, where, fail, raising=where != "open")
    unusable(os.strerror(code))
    assert not folder.exists() or list(folder.iterdir()) == []


@posix
def test_a_full_disk_leaves_nothing_behind(tmp_path):
    code = """if True:
        import resource, signal, warnings
        from gpuconv.backend import cache
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            cache.put("big", bytes(5000))
            cache.put("big", bytes(5000))
            cache.put("small", b"small")
        print(len(said), cache.get("big"), cache.get("small"), len(list(cache.folder().iterdir())))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "None", "b'small'", "1"]


def write_and_read(number):
    payload = bytes([number]) * 5000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(200):
            cache.put(KEY, payload)
            found = cache.get(KEY)
            assert found is not None
            assert len(found) == 5000
            assert len(set(found)) == 1
    return True


def test_eight_processes_write_the_same_key(folder):
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        assert all(pool.map(write_and_read, range(8)))
    assert [path.name for path in folder.iterdir()] == [f"{KEY}.cubin"]


def test_leftovers_are_removed_once_they_are_old(folder):
    folder.mkdir(parents=True, mode=0o700)
    for name, age in (("old.tmp", 2 * 3600), ("new.tmp", 60), ("old.cubin", 2 * 3600)):
        (folder / name).write_bytes(b"")
        os.utime(folder / name, (time.time() - age,) * 2)
    cache.put(KEY, PAYLOAD)
    assert {path.name for path in folder.iterdir()} == {"new.tmp", "old.cubin", f"{KEY}.cubin"}


def test_without_platformdirs_kernels_stay_in_memory_unless_a_folder_is_named(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    cache.put(KEY, PAYLOAD)
    assert cache.get(KEY) == PAYLOAD
    monkeypatch.delenv("GPUCONV_CACHE_DIR")
    with pytest.warns(RuntimeWarning, match="compiled kernels are kept in memory only: .*platformdirs"):
        cache.put(KEY, PAYLOAD)
    assert cache.get(KEY) is None
