"""One claim, measured: base and contender take turns in one process, and what counts is the median of the ratios of the pairs."""

import argparse
import contextlib
import ctypes
import json
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, final

import torch

from interp.data.storage import write_text

RESULTS = Path(__file__).parent / "results"
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
Work = Callable[[], Any]


@final
@dataclass(frozen=True)
class Claim:
    """What is said of a ratio.

    Args:
        what: what this package does.
        against: what it is compared with.
        aim: the figure to reach.
        sense: whether the ratio is to be at most the aim (a cost: contender / base) or at least (a speed-up: base / contender).
    """

    what: str
    against: str
    aim: float
    sense: Literal["at most", "at least"] = "at most"


@final
@dataclass(frozen=True)
class Measured:
    """A claim and what was found; `ratio` is the median over the rounds, `spread` its quartiles, times are in seconds."""

    what: str
    against: str
    aim: float
    sense: str
    ratio: float
    spread: tuple[float, float]
    rounds: int
    size: str
    machine: str
    command: str
    base: float | None = None
    contender: float | None = None
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the median reaches the aim."""
        return self.ratio <= self.aim if self.sense == "at most" else self.ratio >= self.aim

    def __str__(self) -> str:
        """Say it in one line."""
        low, high = self.spread
        said = f"{self.what} ({self.size}): {self.ratio:.3g} [{low:.3g}, {high:.3g}], aim {self.sense} {self.aim:g}"
        times = "" if self.base is None else f"; against {self.base:.3g} s, ours {self.contender:.3g} s"
        return f"{said}{times}: {'met' if self.met else 'MISSED'}{'; ' + self.note if self.note else ''}"


def parser(doc: str | None, *, rounds: int = 5, sizes: Sequence[str] = ("mid",)) -> argparse.ArgumentParser:
    """Return the options every script has."""
    options = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=rounds, help="how many pairs are timed, after one that warms up")
    options.add_argument("--size", default=sizes[0], choices=sizes)
    options.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    return options


def machine(device: str = "cpu") -> str:
    """Say what runs it."""
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{processor()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"


def processor() -> str:
    """Return the processor's name."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} {platform.machine()}" if names else platform.processor() or platform.machine()


def clock(device: str = "cpu") -> float:
    """Return the time in seconds: that of this process alone on a CPU, whatever else the machine does; wall time on an accelerator."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def keep_memory() -> None:
    """Let this process keep memory that is freed, as allocators made for large arrays do; glibc alone.

    Fresh pages cost whoever asks for them first: on a virtual machine more than the arithmetic, and never twice the same.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def seconds(work: Work, device: str = "cpu") -> float:
    """Return how long something takes."""
    begin = clock(device)
    work()
    return clock(device) - begin


def rounds_of(works: Sequence[Work], rounds: int, device: str = "cpu") -> list[list[float]]:
    """Return the seconds of each of some works in every round; they take turns, in an order that turns round, after one warm round."""
    taken: list[list[float]] = [[] for _ in works]
    for index in range(rounds + 1):
        order = range(len(works)) if index % 2 else reversed(range(len(works)))
        for which in order:
            spent = seconds(works[which], device)
            if index:
                taken[which].append(spent)
    return taken


def compared(
    claim: Claim, base: Sequence[float], contender: Sequence[float], *, size: str, device: str = "cpu", note: str = ""
) -> Measured:
    """Return a claim with the median and quartiles of the ratios of paired times."""
    pairs = zip(base, contender, strict=True)
    ratios = [b / a if claim.sense == "at most" else a / b for a, b in pairs]
    middles = statistics.median(base), statistics.median(contender)
    return stated(claim, ratios, size=size, device=device, times=middles, note=note)


def stated(
    claim: Claim,
    ratios: Sequence[float],
    *,
    size: str,
    device: str = "cpu",
    times: tuple[float, float] | None = None,
    note: str = "",
) -> Measured:
    """Return a claim with the median and quartiles of ratios that are known already, of memory for instance."""
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    base, contender = times or (None, None)
    said = (claim.what, claim.against, claim.aim, claim.sense, middle, (low, high), len(ratios))
    return Measured(*said, size, machine(device), command, base, contender, note)


def record(found: Sequence[Measured], name: str | None = None, folder: Path = RESULTS) -> None:
    """Print what was found and put it into `results/<name>.json`, in place of what was measured before of the same claims and sizes.

    The name is that of the script unless another is given.
    """
    for one in found:
        print(one, flush=True)
    path = folder / f"{name or Path(sys.argv[0]).stem}.json"
    before = json.loads(path.read_text()) if path.exists() else []
    fresh = {(one.what, one.against, one.size) for one in found}
    kept = [one for one in before if (one["what"], one["against"], one["size"]) not in fresh]
    write_text(path, json.dumps(kept + [asdict(one) for one in found], indent=1) + "\n")
