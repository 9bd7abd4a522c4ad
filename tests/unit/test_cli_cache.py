"""gpuconv cache: what tuning found is shown, exchanged, thinned out and removed; nothing else is touched."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest

from gpuconv import dispatch, store, store_care
from gpuconv.autotune import space
from gpuconv.autotune.digest import digest
from gpuconv.backend import cache as kernels
from gpuconv.backend import device, folders
from gpuconv.problem import ConvProblem
from gpuconv.store_file import decode, device_facts, file_name, line_of
from tests.command import fails, plain_machine, process, read_end, results, run, usage

from .stored import CARD, entry, fresh, lines, path_of, problem, sealed

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
P = ConvProblem.parse("fprop_n1c8h12w12k8r3s3p1_nchw_f32")
HERE = device.cpu()
KEY = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    plain_machine(monkeypatch)
    fresh(monkeypatch, tmp_path / "cache")
    return tmp_path / "cache" / "tuning"


def real(p=P, **more):
    """An entry that this machine's tuner could have written today."""
    best = space.proposals(p, HERE)[0]
    values = {"kernel": best.kernel.name, "config": asdict(best.config), "digest": digest(p, best, HERE)}
    return replace(entry(), problem=p, **(values | {"date": now()} | more))


def now(days=0):
    return (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")


def done(*words, **how):
    found = run("cache", *words, **how)
    assert found.exit_code == 0, found.output
    return found


def told(*words):
    """The results as JSON."""
    name = f"cache {words[0]}"
    return results(done(*words, "--json"), name)


def put(*found, where=HERE):
    assert store.put(where, found)


def test_nothing_to_show(folder):
    assert told("show") == []
    assert "nothing has been tuned" in done("show").stdout
    assert "compiled kernels\n0, 0.0 MiB\n" in done("show").stdout
    assert not folder.parent.exists()


def test_what_is_there_is_shown_with_what_has_become_of_it():
    q, r = replace(P, N=2), replace(P, N=3)
    put(real(us=10.0, default_us=25.0), real(q, digest="old"), real(r, config={"no_more": 1}))
    put(entry(5), where=CARD)
    kernels.put(KEY, bytes(1000))
    found = {one["device"]["kind"]: one for one in told("show")}
    assert found["cpu"]["device"] == device_facts(HERE)
    assert (found["cpu"]["count"], found["cpu"]["wrong"], found["cpu"]["shipped"]) == (3, None, False)
    by_problem = {one["problem"]: one for one in found["cpu"]["entries"]}
    assert {name: by_problem[str(name)]["state"] for name in (P, q, r)} == {
        P: "fresh",
        q: "stale",
        r: "not used",
    }
    assert by_problem[str(P)]["gain"] == 2.5
    assert by_problem[str(P)]["config"] == dict(real().config)
    assert [one["state"] for one in found["cuda"]["entries"]] == [None]
    document = json.loads(done("show", "--json").stdout)
    assert document["kernels"] == {"count": 1, "bytes": 1040}
    text = done("show").stdout
    assert f"{real().kernel}(" in text
    for word in ("10.0", "25.0", "2.50", "fresh", "stale", "not used", "3 problems", "1 problem"):
        assert word in text, word
    assert "cuda (Made-up 9000, 9.0, 132 SMs), 1 problem" in text
    assert "compiled kernels\n1, 0.0 MiB" in text


def test_shipped_files_are_counted_and_listed_on_request(monkeypatch, tmp_path):
    place = tmp_path / "shipped"
    place.mkdir()
    (place / file_name(device_facts(CARD))).write_bytes(sealed(lines(1, 2), CARD))
    monkeypatch.setattr(store, "SHIPPED", place)
    assert "2 problems (shipped)" in done("show").stdout
    assert str(problem(2)) not in done("show").stdout
    assert str(problem(2)) in done("show", "--shipped").stdout
    assert [len(one["entries"]) for one in told("show", "--shipped")] == [2]
    assert [(one["count"], one["entries"]) for one in told("show")] == [(2, [])]


def test_damage_is_shown(folder):
    put(real())
    path_of(CARD).write_bytes(b"damaged")
    other = replace(CARD, name="Another")
    path_of(other).write_bytes(sealed(lines(1), CARD))
    path_of(HERE).write_bytes(sealed([*lines(1), b"{}"], HERE))
    found = {one["path"]: one for one in told("show")}
    assert found[str(path_of(CARD))]["wrong"] == "is damaged"
    assert found[str(path_of(other))]["wrong"] == "does not have its device's name"
    assert len(found[str(path_of(HERE))]["left_out"]) == 1
    text = done("show").stdout
    assert f"{path_of(CARD)} is damaged; it is not used" in text
    assert "not used: entry 2: " in text


@posix
def test_a_folder_of_others_is_not_looked_into(folder):
    put(real())
    folder.chmod(0o777)
    before = path_of(HERE).read_bytes()
    for words in (("show",), ("prune",), ("clear", "--yes"), ("export", "x")):
        fails(run("cache", *words), 1, "can be written by others")
    assert path_of(HERE).read_bytes() == before


def test_what_is_exported_can_be_imported_elsewhere(tmp_path, monkeypatch):
    put(real(date=now(days=1)), real(replace(P, N=2)))
    put(entry(7), where=CARD)
    out = tmp_path / "out.json"
    (said,) = told("export", out)
    assert (said["path"], said["device"], said["entries"]) == (str(out), device_facts(HERE), 2)
    told("export", "--all", tmp_path / "all")
    files = sorted((tmp_path / "all").iterdir())
    assert {path.name for path in files} == {path_of(HERE).name, path_of(CARD).name}
    before = dict(store.entries(HERE))
    fresh(monkeypatch, tmp_path / "elsewhere")
    put(real(us=3.0))  # newer than what comes
    (said,) = told("import", out)
    assert (said["new"], said["replaced"], said["kept"]) == (1, 0, 1)
    assert store.find(P, HERE).us == 3.0
    assert store.find(replace(P, N=2), HERE) == before[replace(P, N=2)]
    assert store.find(problem(7), CARD) is None
    assert len(told("import", *files)) == 2
    assert store.find(problem(7), CARD) == entry(7)


def test_an_older_entry_is_replaced(tmp_path):
    put(real(us=5.0))
    told("export", tmp_path / "out.json")
    path_of(HERE).unlink()
    put(real(us=9.0, date=now(days=3)))
    (said,) = told("import", tmp_path / "out.json")
    assert (said["new"], said["replaced"], said["kept"]) == (0, 1, 0)
    assert store.find(P, HERE).us == 5.0
    assert "0 new, 0 replaced, 1 kept" in done("import", tmp_path / "out.json").stdout


def test_an_export_into_a_folder_has_its_devices_name(tmp_path):
    put(real())
    done("export", tmp_path)
    assert (tmp_path / path_of(HERE).name).read_bytes() == path_of(HERE).read_bytes()


def test_an_export_is_whole_or_not_at_all(tmp_path, monkeypatch):
    fails(run("cache", "export", tmp_path / "out.json"), 1, "nothing has been tuned on cpu")
    fails(run("cache", "export", "--all", tmp_path / "out"), 1, "nothing has been tuned")
    put(real())
    (tmp_path / "out.json").write_text("before")
    usage_of = run("cache", "export", "--all", tmp_path / "out.json")
    fails(usage_of, 2, "is no folder")
    fails(run("cache", "export", "--all", "--cpu", tmp_path), 2, "one of the two")

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        fails(run("cache", "export", tmp_path / "out.json"), 1, "No space left")
    assert (tmp_path / "out.json").read_text() == "before"
    path_of(HERE).write_bytes(b"damaged")
    fails(run("cache", "export", tmp_path / "out.json"), 1, "is damaged")
    assert (tmp_path / "out.json").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "out.json"]


@pytest.mark.parametrize("command", ["import", "merge"])
@pytest.mark.parametrize("data", [b"", b"{}", sealed([*lines(1), b"{}"], HERE), sealed(lines(1))[:-1]])
def test_one_wrong_file_and_none_is_taken(tmp_path, data, command, folder):
    right, wrong, out = tmp_path / "right.json", tmp_path / "wrong.json", tmp_path / "out.json"
    right.write_bytes(sealed(lines(1), HERE))
    wrong.write_bytes(data)
    more = ("--out", out) if command == "merge" else ()
    fails(run("cache", command, right, wrong, *more), 1, str(wrong), "is ")
    assert not folder.exists()
    assert not out.exists()


def test_files_that_are_not_there_are_wrong_usage(tmp_path):
    usage(run("cache", "import", tmp_path / "nothing.json"), "does not exist")
    usage(run("cache", "import"), "FILE")
    usage(run("cache", "merge", tmp_path / "nothing.json", "--out", tmp_path / "x"), "does not exist")
    usage(run("cache", "prune", "--older-than", "-1"), "--older-than")
    usage(run("cache", "nothing"), "No such command")


def test_files_of_one_device_become_one_file_and_no_store_is_touched(tmp_path, folder):
    one, two, other, out = (tmp_path / name for name in ("1.json", "2.json", "3.json", "out.json"))
    one.write_bytes(sealed(lines(1, 2)))
    late = entry(2, us=1.0, date="2026-03-01T00:00:00+00:00")
    two.write_bytes(sealed([*map(line_of, (late, entry(3)))]))
    other.write_bytes(sealed(lines(1), CARD))
    for order in ((one, two), (two, one)):
        (said,) = told("merge", *order, "--out", out)
        assert said["entries"] == 3
        found = decode(out.read_bytes()).entries
        assert found == {problem(1): entry(1), problem(2): late, problem(3): entry(3)}
    before = out.read_bytes()
    for first in ((one,), (one, one), (one, two, one)):
        says = f"{other} is of cuda (Made-up 9000, 9.0, 132 SMs), {one} of cpu ("
        fails(run("cache", "merge", *first, other, two, "--out", out), 1, says)
    assert out.read_bytes() == before
    assert not folder.exists()
    with pytest.raises(ValueError, match="another device"):
        store_care.joined([store_care.load(one), store_care.load(other)])


@posix
def test_what_is_exported_or_merged_goes_down_a_pipe(tmp_path):
    put(real())
    done("export", out := tmp_path / "out.json")
    with read_end(pipe := tmp_path / "pipe") as reader:
        for words in (("export", pipe), ("merge", out, "--out", pipe)):
            assert "1 entry" in done(*words).stdout
            assert reader.read() == out.read_bytes()
    assert pipe.is_fifo()
    if os.path.exists("/dev/stdout"):
        found = process("cache", "export", "--cpu", "/dev/stdout", cwd=tmp_path)
        assert found.stdout.encode() == out.read_bytes()
        assert found.stderr.startswith("gpuconv: /dev/stdout: cpu (")


def test_what_can_be_of_no_use_is_pruned(folder):
    stale, old = replace(P, N=2), replace(P, N=3)
    put(real(), real(stale, digest="old"), real(old, date=now(days=10)))
    put(real(replace(P, N=4), kernel="no_more"), real(replace(P, N=5), config={"no_more": 1}))
    path_of(CARD).write_bytes(b"damaged")
    (folder / "notes.txt").write_text("mine")
    found = {one["path"]: one for one in told("prune")}
    assert (found[str(path_of(HERE))]["dropped"], found[str(path_of(HERE))]["left"]) == (2, 3)
    assert found[str(path_of(CARD))]["wrong"] == "is damaged"
    assert not path_of(CARD).exists()
    assert set(store.entries(HERE)) == {P, stale, old}
    assert "1 removed, 2 left" in done("prune", "--older-than", "5").stdout
    assert set(store.entries(HERE)) == {P, stale}
    done("prune", "--older-than", "0")
    kept = set(store.entries(HERE))  # what is of this very second may stay
    assert kept in ({P, stale}, set())
    path_of(HERE).write_bytes(sealed([line_of(real()), b"{}"], HERE))
    (said,) = told("prune")
    assert (said["dropped"], said["left"]) == (1, 1)
    assert decode(path_of(HERE).read_bytes()).left_out == ()
    put(real(kernel="no_more", date=now(days=-1)))
    done("prune")
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "notes.txt"]
    assert "nothing has been tuned" in done("prune").stdout


def test_only_gpuconvs_own_files_are_removed(folder):
    put(real())
    put(entry(1), where=CARD)
    kernels.put(KEY, b"kernel")
    mine = [folder / "notes.json", folder / ("x" * 64 + ".json"), kernels.folder() / "mine.cubin"]
    mine += [folder.parent / "mine.json"]
    for path in mine:
        path.write_text("mine")
    (folder / "left.tmp").write_text("")
    (said,) = (json.loads(done("clear", "--yes", "--json").stdout),)
    assert said["kernels"] == 0
    assert {one["path"] for one in said["results"]} == {
        *map(str, (path_of(HERE), path_of(CARD), folder / "left.tmp"))
    }
    assert dict(store.entries(HERE)) == {}
    assert kernels.get(KEY) == b"kernel"
    assert "1 compiled kernel" in done("clear", "--yes", "--kernels").stdout
    assert kernels.get(KEY) is None
    assert all(path.read_text() == "mine" for path in mine)
    assert "0 files of tuning results, 0 compiled kernels" in done("clear", "--yes", "--kernels").stdout


def test_what_could_not_be_written_is_cleared_too_and_not_pruned(monkeypatch):
    put(real())

    def full(path):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(folders, "make", full)
        with pytest.warns(RuntimeWarning, match="in memory only"):
            store.put(HERE, [real(replace(P, N=2))])
    done("prune")
    assert len(store.entries(HERE)) == 2
    done("clear", "--yes")
    assert len(store.entries(HERE)) == 0


@posix
def test_a_link_is_removed_and_not_what_it_leads_to(folder, tmp_path):
    put(real())
    elsewhere = tmp_path / "elsewhere"
    path_of(HERE).rename(elsewhere)
    path_of(HERE).symlink_to(elsewhere)
    assert told("prune") == []
    assert path_of(HERE).is_symlink()
    done("clear", "--yes")
    assert not path_of(HERE).is_symlink()
    assert elsewhere.exists()


@posix
def test_what_is_not_the_users_own_is_named_once_and_left_by_pruning(folder, tmp_path, monkeypatch):
    put(real())
    path = path_of(HERE)
    path.chmod(0o666)
    says = f"{path} can be written by others"
    assert done("show").stdout.startswith(f"{says}; it is not used\n")
    fails(run("cache", "export", "--cpu", tmp_path / "out"), 1, f"gpuconv: {says}\n")
    pruned = done("prune")
    assert (pruned.stdout, pruned.stderr) == ("", f"gpuconv: {says}; it is left as it is\n")

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(store, "read", refuse)
    assert f"{path} cannot be read: Permission denied; it is not used" in done("show").stdout


def test_a_folder_of_a_files_name_does_not_keep_others_from_being_removed(folder):
    put(real())
    kernels.put(KEY, b"kernel")
    names = ["0.tmp", f"{KEY}.json", "z.tmp"]
    for place in (*map(folder.joinpath, names), kernels.folder() / f"{'0' * 64}.cubin"):
        place.mkdir(mode=0o700)
    (folder / "x.tmp").write_text("")
    found = run("cache", "clear", "--yes", "--kernels")
    assert found.stdout == "removed: 1 file of tuning results, 1 compiled kernel\n"
    assert (found.exit_code, found.stderr.count("\n")) == (1, 1)
    assert all(str(folder / name) in found.stderr for name in names)
    assert sorted(path.name for path in folder.iterdir()) == sorted(["lock", *names])


def test_clear_asks(monkeypatch):
    from click.testing import CliRunner

    from gpuconv.cli import main

    put(real())

    def answered(text):
        return CliRunner().invoke(main.cli, ["cache", "clear"], prog_name="gpuconv", input=text)

    for text in ("n\n", "\n", ""):
        found = answered(text)
        assert found.exit_code == 1
        assert found.stdout == ""
        assert "Remove 1 file of tuning results?" in found.stderr
        assert "nothing was removed" in found.stderr
        assert path_of(HERE).exists()
    assert answered("y\n").exit_code == 0
    assert not path_of(HERE).exists()


def test_what_was_tuned_and_cleared_runs_untuned_in_the_next_process(monkeypatch):
    other = next(one for one in space.proposals(P, HERE)[1:])
    put(real(kernel=other.kernel.name, config=asdict(other.config)))
    monkeypatch.setattr(dispatch, "_choices", {})
    plan = dispatch.plan_for(P, HERE)
    assert (plan.kernel, plan.config) == (other.kernel.name, other.config)
    done("clear", "--yes")
    monkeypatch.setattr(dispatch, "_choices", {})
    plan = dispatch.plan_for(P, HERE)
    first = dispatch._untuned(P, HERE, None)[0][0]
    assert (plan.kernel, plan.config) == (first.kernel.name, first.config)


def test_env_tells_the_folder(folder):
    (found,) = results(run("env", "--json"), "env")
    assert found["folders"]["tuning results"] == f"{folder} (not there yet)"
    assert found["versions"]["filelock"][0].isdigit()
    put(real())
    (found,) = results(run("env", "--json"), "env")
    assert found["folders"]["tuning results"] == str(folder)
