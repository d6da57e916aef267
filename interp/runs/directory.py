"""A run on disk: rows that are appended a batch at a time and survive whatever ends the process."""

import json
import logging
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from filelock import FileLock, Timeout

from interp.data.storage import write_text
from interp.runs.row import Cost, Row

MANIFEST, ROWS, COSTS, SCORES = "manifest.json", "rows.jsonl", "costs.jsonl", "scores.json"
LOCK, _WRITER = "lock", "writer"
_POLL = 0.2
"""Seconds between two attempts at a lock that another process holds."""
_WINDOWS = os.name == "nt"

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class Run:
    """One method on one benchmark, as a directory holds it.

    Args:
        path: the directory.
        manifest: what it is a run of; `identity` in it is what its rows depend on.
    """

    path: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Open a run directory.

        Raises:
            FileNotFoundError: there is none.
            ValueError: its manifest cannot be read.
        """
        file = Path(path) / MANIFEST
        if not file.is_file():
            raise FileNotFoundError(f"{path} is no run directory: there is no {MANIFEST} in it")
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
            return cls(Path(path), manifest | {"identity": manifest["identity"]})
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{file} cannot be read ({error}); interp runs rm {path} clears it away") from error

    @property
    def name(self) -> str:
        """The name of the directory."""
        return self.path.name

    @property
    def samples(self) -> int:
        """How many samples the run has when it is complete."""
        return int(self.manifest["identity"]["samples"])

    @property
    def batch_size(self) -> int:
        """How many samples are asked together."""
        return int(self.manifest["identity"]["batch_size"])

    @property
    def method(self) -> str:
        """The name of the method."""
        return str(self.manifest["method"])

    def rows(self) -> list[Row]:
        """Return the rows that are there, up to the first that is not whole."""
        return [Row.from_line(line) for line in _whole(self.path / ROWS, Row.from_line)]

    def costs(self) -> list[Cost]:
        """Return what each batch cost; of one that was done again, the last."""
        read = [Cost.from_line(line) for line in _whole(self.path / COSTS, Cost.from_line)]
        return list({c.batch: c for c in read}.values())

    @property
    def complete(self) -> bool:
        """Whether every sample has its row."""
        return len(self.rows()) == self.samples

    def append(self, rows: Sequence[Row], cost: Cost) -> None:
        """Add a batch: all of it reaches the disk before this returns.

        Raises:
            OSError: the disk is full, or cannot be written; what was there before stays whole.
        """
        _append(self.path / COSTS, cost.line())  # first, so that rows never lack theirs
        _append(self.path / ROWS, b"".join(r.line() for r in rows))

    def recover(self) -> list[Row]:
        """Cut off a line that is not whole and the rows of a batch that is not, and return the rows that stay."""
        lines = _whole(self.path / ROWS, Row.from_line)
        kept = lines if len(lines) == self.samples else lines[: len(lines) // self.batch_size * self.batch_size]
        _cut(self.path / ROWS, sum(map(len, kept)))
        _cut(self.path / COSTS, sum(map(len, _whole(self.path / COSTS, Cost.from_line))))
        return [Row.from_line(line) for line in kept]

    def clear(self) -> None:
        """Take away everything but the manifest."""
        for name in (ROWS, COSTS, SCORES):
            (self.path / name).unlink(missing_ok=True)

    def scores(self) -> dict[str, Any]:
        """Return the saved scores by the reading they were made with; none before the run is complete."""
        file = self.path / SCORES
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def keep_scores(self, reading: str, scores: Mapping[str, Any]) -> None:
        """Save scores under the reading they were made with, beside those of other readings."""
        write_text(self.path / SCORES, json.dumps({**self.scores(), reading: scores}, indent=1) + "\n")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from writing here; wait while one does, and say which.

        The lock goes with the process that holds it, however that ends.
        """
        with _lock(self.path, wait=True):
            yield


def started(folder: str | Path, name: str, manifest: Mapping[str, Any]) -> Run:
    """Return the run directory of a manifest: the one that is there, or a new one.

    Raises:
        ValueError: what is there is the run of another model, of other data or settings; says which.
        OSError: it cannot be written.
    """
    path = Path(folder) / name
    if not (path / MANIFEST).is_file():
        write_text(path / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    run = Run.open(path)
    wanted, there = manifest["identity"], run.manifest["identity"]
    other = sorted(n for n in {*wanted, *there} if wanted.get(n) != there.get(n))
    if other:
        said = "; ".join(f"{n} is {_short(there.get(n))} there and {_short(wanted.get(n))} here" for n in other)
        raise ValueError(
            f"{path} holds another run: {said}. Choose another folder, or remove it: interp runs rm {path}"
        )
    return run


def runs(folder: str | Path) -> list[Run]:
    """Return the runs of a folder by name; directories whose manifest cannot be read are passed over."""
    found = []
    for file in sorted(Path(folder).glob(f"*/{MANIFEST}")):
        try:
            found.append(Run.open(file.parent))
        except ValueError as error:
            _log.warning("%s", error)
    return found


def remove(path: str | Path) -> None:
    """Delete a run directory: the files of a run, and nothing that others put there.

    Raises:
        FileNotFoundError: it is no run directory.
        BlockingIOError: a process is writing there.
    """
    place = Path(path)
    if not (place / MANIFEST).is_file():
        raise FileNotFoundError(f"{path} is no run directory: there is no {MANIFEST} in it")
    with _lock(place, wait=False):
        for name in (MANIFEST, ROWS, COSTS, SCORES):
            (place / name).unlink(missing_ok=True)
        # The lock file is deleted while it is locked. A waiting process then notices that its file is gone and opens a new one;
        # deleted later, one process could hold the old file and another a new one of the same name, and both would write.
        if not _WINDOWS:
            (place / LOCK).unlink(missing_ok=True)
    if _WINDOWS:  # which deletes no open file: not ours before the release, and not one that another process has opened since
        with suppress(PermissionError):
            (place / LOCK).unlink(missing_ok=True)
    if not any(place.iterdir()):
        place.rmdir()


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@contextmanager
def _lock(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock of a directory; the operating system releases it when the process ends, however it ends."""
    lock = FileLock(path / LOCK, poll_interval=_POLL)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        writer = (path / _WRITER).read_text(encoding="utf-8") if (path / _WRITER).is_file() else "another process"
        if not wait:
            raise BlockingIOError(f"{path} is being written by {writer}; wait for it, or end it") from None
        _log.warning("%s is being written by %s; waiting for it", path.name, writer)
        lock.acquire()
    try:
        # In a file of its own: Windows lets no other process read a locked file.
        write_text(path / _WRITER, f"process {os.getpid()} on {platform.node()}")
        yield
    finally:
        (path / _WRITER).unlink(missing_ok=True)
        lock.release()


def _whole(path: Path, read: Any) -> list[bytes]:
    """Return the lines of a file up to the first that was cut short or holds something else."""
    lines: list[bytes] = []
    for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else []:
        try:
            read(line)
        except (ValueError, TypeError):
            break
        if not line.endswith(b"\n"):
            break
        lines.append(line)
    return lines


def _cut(path: Path, size: int) -> None:
    if path.is_file() and path.stat().st_size > size:
        os.truncate(path, size)


def _append(path: Path, data: bytes) -> None:
    """Add bytes to a file and bring them to the disk; a file that could not take all of them is left as it was."""
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            left = memoryview(data)
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError as error:
            os.truncate(path, before)
            raise OSError(
                f"could not write {path}: {error}; what was written before is whole. Free some space and run the same again to go on."
            ) from error
