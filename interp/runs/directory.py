"""A run on disk: a directory whose rows survive the end of the process, whatever ends it.

`open_or_start` opens the directory of a manifest or starts it; `Run` reads and writes it; `list_runs` and `remove_run` serve the
command line. Three rules make a run safe to kill at any time:

- A batch is appended and synced as a whole, and a write that fails is taken back, so a file never loses rows it had.
- A line that was cut short, and rows of an incomplete batch, are cut off by `Run.recover` before anything is added.
- Only the process that holds the lock writes; the operating system releases the lock when that process ends.
"""

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

MANIFEST_FILE, _ROWS, _COSTS, _SCORES = "manifest.json", "rows.jsonl", "costs.jsonl", "scores.json"
_LOCK, _WRITER = "lock", "writer"
_POLL = 0.2
"""Seconds between two attempts at a lock that another process holds."""
_WINDOWS = os.name == "nt"

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class Run:
    """One method on one benchmark, in a directory.

    Args:
        path: the directory.
        manifest: the content of manifest.json; its entry `identity` is what the rows depend on.
    """

    path: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Open a run directory.

        Raises:
            FileNotFoundError: the directory has no manifest.
            ValueError: its manifest cannot be read.
        """
        file = Path(path) / MANIFEST_FILE
        if not file.is_file():
            raise FileNotFoundError(f"{path} is not a run directory: it has no {MANIFEST_FILE}")
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
            return cls(Path(path), manifest | {"identity": manifest["identity"]})
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{file} cannot be read ({error}); remove the directory with: interp runs rm {path}"
            ) from error

    @property
    def name(self) -> str:
        """The name of the directory."""
        return self.path.name

    @property
    def samples(self) -> int:
        """The number of samples of the complete run."""
        return int(self.manifest["identity"]["samples"])

    @property
    def batch_size(self) -> int:
        """The number of samples that are asked together."""
        return int(self.manifest["identity"]["batch_size"])

    @property
    def method(self) -> str:
        """The name of the method."""
        return str(self.manifest["method"])

    def rows(self) -> list[Row]:
        """Return the rows on disk, up to the first that was cut short."""
        return [Row.from_line(line) for line in _whole(self.path / _ROWS, Row.from_line)]

    def costs(self) -> list[Cost]:
        """Return the cost of each batch; for a batch that was repeated, the latest."""
        read = [Cost.from_line(line) for line in _whole(self.path / _COSTS, Cost.from_line)]
        return list({c.batch: c for c in read}.values())

    @property
    def complete(self) -> bool:
        """Whether every sample has a row."""
        return len(self.rows()) == self.samples

    def append(self, rows: Sequence[Row], cost: Cost) -> None:
        """Append a batch; all of it is on the disk when this returns.

        Raises:
            OSError: the disk is full or cannot be written; what was written before stays whole.
        """
        # Costs come first: a process that is killed between the two writes repeats the batch and replaces the cost. The other way
        # round, the batch would count as done and never get a cost.
        _append(self.path / _COSTS, cost.line())
        _append(self.path / _ROWS, b"".join(r.line() for r in rows))

    def recover(self) -> list[Row]:
        """Cut off a line that was cut short and the rows of an incomplete batch, and return the rows that remain."""
        # Whole batches only: samples of one batch are padded together and share a seed, so a part of one cannot be repeated alone.
        lines = _whole(self.path / _ROWS, Row.from_line)
        kept = lines if len(lines) == self.samples else lines[: len(lines) // self.batch_size * self.batch_size]
        _cut(self.path / _ROWS, sum(map(len, kept)))
        _cut(self.path / _COSTS, sum(map(len, _whole(self.path / _COSTS, Cost.from_line))))
        return [Row.from_line(line) for line in kept]

    def clear(self) -> None:
        """Delete everything but the manifest."""
        for name in (_ROWS, _COSTS, _SCORES):
            (self.path / name).unlink(missing_ok=True)

    def scores(self) -> dict[str, Any]:
        """Return the saved scores by reading settings; empty before the run is complete."""
        file = self.path / _SCORES
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def keep_scores(self, reading: str, scores: Mapping[str, Any]) -> None:
        """Save scores under their reading settings, beside those of other settings."""
        write_text(self.path / _SCORES, json.dumps({**self.scores(), reading: scores}, indent=1) + "\n")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from writing here; wait while one does, with a warning that names it."""
        with _lock(self.path, wait=True):
            yield


def open_or_start(folder: str | Path, name: str, manifest: Mapping[str, Any]) -> Run:
    """Return the run of a manifest from its directory, which is created where it does not exist.

    Raises:
        ValueError: the directory holds the run of another model, other data or settings; lists the differences.
        OSError: the directory cannot be written.
    """
    path = Path(folder) / name
    if not (path / MANIFEST_FILE).is_file():
        write_text(path / MANIFEST_FILE, json.dumps(manifest, indent=1) + "\n")
    run = Run.open(path)
    wanted, there = manifest["identity"], run.manifest["identity"]
    other = sorted(n for n in {*wanted, *there} if wanted.get(n) != there.get(n))
    if other:
        said = "; ".join(f"{n} is {_short(there.get(n))} there, but {_short(wanted.get(n))} here" for n in other)
        raise ValueError(
            f"{path} holds another run: {said}. Choose another folder, or remove it: interp runs rm {path}"
        )
    return run


def list_runs(folder: str | Path) -> list[Run]:
    """Return the runs of a folder by name; directories whose manifest cannot be read are skipped with a warning."""
    found = []
    for file in sorted(Path(folder).glob(f"*/{MANIFEST_FILE}")):
        try:
            found.append(Run.open(file.parent))
        except ValueError as error:
            _log.warning("%s", error)
    return found


def remove_run(path: str | Path) -> None:
    """Delete the files of a run directory, and the directory if nothing else is in it.

    Raises:
        FileNotFoundError: it is not a run directory.
        BlockingIOError: a process is writing to it.
    """
    place = Path(path)
    if not (place / MANIFEST_FILE).is_file():
        raise FileNotFoundError(f"{path} is not a run directory: it has no {MANIFEST_FILE}")
    with _lock(place, wait=False):
        for name in (MANIFEST_FILE, _ROWS, _COSTS, _SCORES):
            (place / name).unlink(missing_ok=True)
        # The lock file is deleted while it is locked. A waiting process then notices that its file is gone and opens a new one;
        # deleted later, one process could hold the old file and another a new one of the same name, and both would write.
        if not _WINDOWS:
            (place / _LOCK).unlink(missing_ok=True)
    if (
        _WINDOWS
    ):  # which deletes no open file: not ours before the release, and not one that another process has opened since
        with suppress(PermissionError):
            (place / _LOCK).unlink(missing_ok=True)
    if not any(place.iterdir()):
        place.rmdir()


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@contextmanager
def _lock(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock of a directory; the operating system releases it when the process ends, however it ends."""
    # On a file system without locks, filelock would fall back to a file that merely exists, which outlives a killed process.
    lock = FileLock(path / _LOCK, poll_interval=_POLL, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        writer = _writer(path)
        if not wait:
            raise BlockingIOError(
                f"{path} is being written by {writer}; wait until it has finished, or end it"
            ) from None
        _log.warning("%s is being written by %s; waiting for it", path.name, writer)
        lock.acquire()
    try:
        # In a file of its own: Windows lets no other process read a locked file.
        write_text(path / _WRITER, f"process {os.getpid()} on {platform.node()}")
        yield
    finally:
        (path / _WRITER).unlink(missing_ok=True)
        lock.release()


def _writer(path: Path) -> str:
    try:
        return (path / _WRITER).read_text(encoding="utf-8")
    except FileNotFoundError:  # it has just taken the lock, or is about to release it
        return "another process"


def _whole(path: Path, read: Any) -> list[bytes]:
    """Return the lines of a file up to the first that was cut short or cannot be read."""
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
    """Append bytes to a file and sync it; a file that could not take all of them keeps its old length."""
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
                f"could not write {path}: {error}; what was written before is whole. Free some space and repeat the call to resume."
            ) from error
