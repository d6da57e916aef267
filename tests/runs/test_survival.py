"""Runs survive whatever ends the process: killed, interrupted, cut short, the disk full."""

import errno
import json
import logging
import os
import resource
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from interp.runs import execution
from interp.runs.directory import Run
from interp.runs.execution import execute
from interp.runs.row import Row


def content(run: Run | Path) -> bytes:
    """Return the bytes of a run's rows."""
    path = run.path if isinstance(run, Run) else run
    return (path / "rows.jsonl").read_bytes()


def killed(child: int, after: float) -> bool:
    """Kill a child after some time; return whether it still ran."""
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.fixture
def whole(asked, tmp_path) -> tuple[Run, float]:
    """A run that nothing disturbed, and how many seconds it took."""
    execute(asked(), None, tmp_path / "warm")
    before = time.perf_counter()
    return execute(asked(), None, tmp_path / "whole"), time.perf_counter() - before


@pytest.mark.slow
def test_a_run_that_is_killed_twenty_times_ends_with_the_same_bytes(whole, asked, forked, tmp_path) -> None:
    (reference, seconds), what, folder = whole, asked(), tmp_path / "killed"
    moments = np.random.default_rng(0)
    kills, broken = 0, 0
    while kills < 20:
        kills += killed(forked(lambda: execute(what, None, folder)), moments.uniform(0, 1.2 * seconds))
        path = folder / reference.name
        lines = content(path).splitlines() if (path / "rows.jsonl").exists() else []
        broken += 0 < len(lines) < 10
        if len(lines) == 10 and content(path).endswith(b"\n"):
            assert content(path) == content(reference)
            shutil.rmtree(path)
    assert content(execute(what, None, folder)) == content(reference)
    assert broken  # else nothing was interrupted on the way


@pytest.mark.parametrize("keep", [0, 1, 200, 0.2, 0.5, 0.9, -2, -1])
def test_a_file_that_was_cut_short_is_completed_to_the_same_bytes(whole, asked, keep) -> None:
    run, _ = whole
    before = content(run)
    size = int(keep * len(before)) if isinstance(keep, float) else keep
    (run.path / "rows.jsonl").write_bytes(before[:size])
    (run.path / "costs.jsonl").write_bytes((run.path / "costs.jsonl").read_bytes()[:-9])
    again = execute(asked(), None, run.path.parent)
    assert content(again) == before
    assert sorted(c.batch for c in again.costs()) == [0, 1, 2, 3]


def test_a_line_that_holds_something_else_is_done_again_with_all_behind_it(whole, asked) -> None:
    run, _ = whole
    before = content(run)
    lines = before.splitlines(keepends=True)
    lines[4] = b'{"id": 4}\n'
    (run.path / "rows.jsonl").write_bytes(b"".join(lines))
    assert len(run.rows()) == 4
    assert content(execute(asked(), None, run.path.parent)) == before


def test_nothing_is_asked_twice(whole, asked, monkeypatch) -> None:
    run, _ = whole
    monkeypatch.setattr(execution, "generate", lambda *_, **__: pytest.fail("it was asked again"))
    before = content(run)
    assert content(execute(asked(), None, run.path.parent)) == before


def test_without_resume_everything_is_asked_again(whole, asked) -> None:
    run, _ = whole
    before = content(run)
    (run.path / "rows.jsonl").write_bytes(before.replace(b'"q1"', b'"xx"'))
    assert content(execute(asked(), None, run.path.parent, resume=False)) == before


def test_only_what_is_missing_is_asked(whole, asked, monkeypatch) -> None:
    run, _ = whole
    lines = content(run).splitlines(keepends=True)
    (run.path / "rows.jsonl").write_bytes(b"".join(lines[:5]))  # batches hold three
    prompts = []
    plain = execution.generate
    monkeypatch.setattr(execution, "generate", lambda m, p, *c, **o: prompts.append(len(p)) or plain(m, p, *c, **o))
    execute(asked(), None, run.path.parent)
    assert prompts == [3, 3, 1]


def test_an_interrupted_run_says_how_to_go_on_and_does(whole, asked, tmp_path, monkeypatch, caplog) -> None:
    run, _ = whole
    plain, calls = execution.generate, []

    def interrupted(*given, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(*given, **options)

    monkeypatch.setattr(execution, "generate", interrupted)
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        execute(asked(), None, tmp_path / "stopped")
    assert "6 of 10 samples are in" in caplog.text
    assert "the same call resumes from there" in caplog.text
    assert content(execute(asked(), None, tmp_path / "stopped")) == content(run)


def test_two_processes_on_one_directory_share_the_work(whole, asked, forked, tmp_path) -> None:
    what, folder = asked(), tmp_path / "shared"
    children = [forked(lambda: execute(what, None, folder)) for _ in range(2)]
    assert [os.waitpid(c, 0)[1] for c in children] == [0, 0]
    run = Run.open(folder / whole[0].name)
    assert content(run) == content(whole[0])
    assert len((run.path / "costs.jsonl").read_bytes().splitlines()) == 4  # each batch once


def test_the_second_process_says_who_holds_the_directory(whole, asked, caplog) -> None:
    run, _ = whole
    second = threading.Thread(target=lambda: execute(asked(), None, run.path.parent))
    with caplog.at_level(logging.WARNING):
        with run.lock():
            second.start()
            while not caplog.records:
                time.sleep(0.01)
        second.join()
    assert f"{run.name} is being written by process {os.getpid()} on" in caplog.text


def test_a_full_disk_is_survived(whole, asked, forked, tmp_path) -> None:
    (reference, _), what, folder = whole, asked(), tmp_path / "full"

    def short_of_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        room = int(0.7 * len(content(reference)))
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        try:
            execute(what, None, folder)
        except OSError as error:
            (folder / "said").write_text(str(error))

    os.waitpid(forked(short_of_room), 0)
    said = (folder / "said").read_text()
    assert "rows.jsonl" in said
    assert "what was written before is whole" in said
    part = content(folder / reference.name)
    assert 0 < len(part) < len(content(reference))
    assert part == content(reference)[: len(part)]
    assert [Row.from_line(line).id for line in part.splitlines()] == [f"q{i}" for i in range(6)]
    assert content(execute(what, None, folder)) == content(reference)


def test_a_manifest_that_cannot_be_written_leaves_nothing(asked, tmp_path, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OSError, match="No space left on device"):
        execute(asked(), None, tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_costs_stand_apart_from_rows(whole) -> None:
    run, _ = whole
    assert "seconds" not in content(run).decode()
    assert [c.samples for c in run.costs()] == [3, 3, 3, 1]
    rows = run.rows()
    assert sum(c.tokens for c in run.costs()) == sum(len(r.ids) for r in rows)
    assert all(c.seconds > 0 and c.memory > 0 for c in run.costs())
    assert all(len(r.ids) == len(r.logprobs) == len(r.tokens) and r.prompt > 0 for r in rows)
    assert json.loads(content(run).splitlines()[0])["question"] == "What?"
