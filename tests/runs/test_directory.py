"""Run directories: opened, listed, locked, removed."""

import errno
import fcntl
import os
import shutil
import signal
import time

import pytest

from interp.runs.directory import Run, list_runs, open_or_start, remove_run
from interp.runs.execution import execute
from interp.runs.row import Cost, Row


def test_removing_takes_the_files_of_a_run_and_no_others(two) -> None:
    (two[0].path / "notes.txt").write_text("mine")
    with two[1].lock(), pytest.raises(BlockingIOError, match="is being written by process"):
        remove_run(two[1].path)
    remove_run(two[0].path)
    remove_run(two[1].path)
    assert [p.name for p in two[0].path.iterdir()] == ["notes.txt"]
    assert not two[1].path.exists()
    with pytest.raises(FileNotFoundError, match="is not a run directory"):
        remove_run(two[0].path)


def test_a_directory_of_another_model_is_refused(asked, tmp_path) -> None:
    what = asked()
    run = execute(what, None, tmp_path)
    manifest = what.manifest(None)
    manifest["identity"]["weights"] = "0" * 64
    with pytest.raises(ValueError, match=r"holds another run: weights is .* there, but .* here.*interp runs rm"):
        open_or_start(tmp_path, run.name, manifest)


def test_runs_of_a_folder(asked, tmp_path, caplog) -> None:
    run = execute(asked(limit=3), None, tmp_path)
    assert list_runs(tmp_path) == [run]
    assert list_runs(tmp_path / "nothing") == []
    shutil.copytree(run.path, tmp_path / "broken")
    (tmp_path / "broken" / "manifest.json").write_text("{")
    assert list_runs(tmp_path) == [run]
    assert "interp runs rm" in caplog.text
    with pytest.raises(ValueError, match=r"manifest\.json cannot be read"):
        Run.open(tmp_path / "broken")
    with pytest.raises(FileNotFoundError, match=r"is not a run directory: it has no manifest\.json"):
        Run.open(tmp_path)


def hold(path, ready) -> None:
    """Hold the lock of a directory until killed, and say so."""
    with Run.open(path).lock():
        ready.write_text("yes")
        time.sleep(60)


def test_a_killed_process_gives_its_lock_back(asked, forked, tmp_path) -> None:
    path = open_or_start(tmp_path, "one", asked().manifest(None)).path
    child = forked(lambda: hold(path, tmp_path / "ready"))
    while not (tmp_path / "ready").is_file():
        time.sleep(0.01)
    with pytest.raises(
        BlockingIOError, match=rf"is being written by process {child} on .*; wait until it has finished"
    ):
        remove_run(path)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with Run.open(path).lock():
        assert str(os.getpid()) in (path / "writer").read_text()
    assert not (path / "writer").exists()


def test_a_lock_that_cannot_be_written_names_its_file(asked, tmp_path, monkeypatch) -> None:
    run = open_or_start(tmp_path, "one", asked().manifest(None))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OSError, match=r"could not write .*one/writer: .*No space left on device"), run.lock():
        pytest.fail("the lock was taken")
    monkeypatch.undo()
    with run.lock():
        pass


def test_a_process_that_waits_for_a_removed_run_starts_again_with_a_new_lock(asked, tmp_path) -> None:
    run = open_or_start(tmp_path, "one", asked().manifest(None))
    with run.lock():
        (run.path / "lock").unlink()
        with run.lock():  # of another file: the old one guards no name any more
            pass


def test_a_batch_that_cannot_be_written_is_taken_back(asked, tmp_path, monkeypatch) -> None:
    run = open_or_start(tmp_path, "one", asked().manifest(None))
    row, cost = Row("q0", "What?", reply="a cat"), Cost(0, 1, 2, 0.5, 9)
    run.append([row], cost)
    before = (run.path / "rows.jsonl").read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match=r"could not write .*costs\.jsonl.*repeat the call to resume"):
        run.append([row], cost)
    assert (run.path / "rows.jsonl").read_bytes() == before
    assert run.costs() == [cost]
    assert run.rows() == [row]


def test_a_file_system_without_locks_is_refused(asked, tmp_path, monkeypatch) -> None:
    run = open_or_start(tmp_path, "one", asked().manifest(None))

    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", missing)
    with pytest.raises(OSError, match="Function not implemented"), run.lock():
        pytest.fail("the lock was taken")
