"""`stability`: how far the replies of a model depend on the batch size and the attention kernel."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import pandas as pd

from interp.bench.base import Benchmark, compute_scores
from interp.interventions.method import Method
from interp.models.model import Model
from interp.runs.execution import execute
from interp.runs.identity import name_method
from interp.runs.parsed_run import ParsedRun
from interp.runs.run import load_parts
from interp.runs.spec import RunSpec, build_spec
from interp.runs.table_formats import flatten, format_table


@final
@dataclass(frozen=True, eq=False)
class Stability:
    """The same questions, computed in several ways that agree in exact arithmetic.

    `frame` has one row per way: its `batch_size` and `attention`; `n`, the samples with a reply here and in the first row;
    `replies`, how many of those replies have other tokens than in the first row; `answers`, how many are read differently; `logprob`,
    the largest difference of a log-probability before the replies diverge; and the scores of the whole benchmark.

    Args:
        about: what all rows have in common.
        frame: the rows.
        headline: the scores to show.
    """

    about: Mapping[str, Any]
    frame: pd.DataFrame
    headline: tuple[str, ...]

    def __str__(self) -> str:
        """Return the table as text."""
        return self.render("text")

    def flat(self) -> pd.DataFrame:
        """Return the frame with the entries of `about` as columns."""
        return flatten(self.about, self.frame)

    def render(self, how: str) -> str:
        """Return the table as `text`, `csv`, `markdown` or `latex`.

        Raises:
            ValueError: an unknown format.
        """
        if how == "csv":
            return self.flat().to_csv(index=False)
        shown = ["batch_size", "attention", "n", "replies", "answers", "logprob", *self.headline]
        rows = [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in line] for line in self.frame[shown].to_numpy()]
        heads = ["batch size", "attention", "n", "other replies", "other answers", "Δ logprob", *self.headline]
        return format_table(how, " · ".join(f"{n} {v}" for n, v in self.about.items()), heads, rows)


def stability(
    model: Model | str,
    benchmark: Benchmark | str,
    method: Method | str | None = None,
    *,
    batch_size: int = 16,
    folder: str | Path = "runs",
    progress: bool = True,
    **settings: Any,
) -> Stability:
    """Return how many replies and answers change with the batch size and the attention kernel.

    Batches of one are compared with batches of `batch_size`, and eager attention with sdpa. Replies change more often under float16 and
    bfloat16 than under float32.

    Args:
        model: a model, or its name.
        benchmark: a benchmark, or its name with settings.
        method: the method under which it is asked; the baseline by default.
        batch_size: the batch size that batches of one are compared with.
        folder: the folder of the run directories.
        progress: whether to show a progress bar for each way.
        settings: further settings of `run`: `limit`, `seed`, `system_prompt`, and options of `generate`.

    Raises:
        ValueError: as for `run`.
    """
    found = load_parts(model, benchmark, [] if method is None else [method])
    asked = {n: settings.pop(n) for n in ("limit", "seed", "system_prompt") if n in settings}
    spec = build_spec(found.model, found.benchmark, batch_size=batch_size, options=settings, **asked)
    ways = (spec, replace(spec, batch_size=1), replace(spec, attention="eager"))
    under = found.methods[-1]
    parsed = [_parse(way, under, folder, progress=progress) for way in ways]
    rows = [_compare_ways(way, one, parsed[0]) for way, one in zip(ways, parsed, strict=True)]
    about = {
        "model": found.model.name,
        "dtype": str(found.model.dtype).removeprefix("torch."),
        "benchmark": type(found.benchmark).__name__.lower(),
        "method": name_method(under),
    }
    return Stability(about, pd.DataFrame(rows), tuple(found.benchmark.headline))


def _parse(spec: RunSpec, method: Method | None, folder: str | Path, *, progress: bool) -> ParsedRun:
    name = f"batch {spec.batch_size}, {spec.attention}"
    return ParsedRun.parse(execute(spec, method, folder, progress=progress), spec.benchmark, name)


def _compare_ways(spec: RunSpec, one: ParsedRun, first: ParsedRun) -> dict[str, Any]:
    there = {r.id: r for r in first.rows if not r.error}
    pairs = [(r, there[r.id]) for r in one.rows if r.id in there and not r.error]
    apart = [
        abs(a - b)
        for mine, theirs in pairs
        for a, b, same in zip(mine.logprobs, theirs.logprobs, _same(mine.ids, theirs.ids), strict=False)
        if same and a is not None and b is not None
    ]
    return {
        "batch_size": spec.batch_size,
        "attention": spec.attention,
        "n": len(pairs),
        "replies": sum(mine.ids != theirs.ids for mine, theirs in pairs),
        "answers": sum(one.read[r.id][1] != first.read[r.id][1] for r, _ in pairs),
        "logprob": max(apart, default=0.0),
        **compute_scores(spec.benchmark, one.read.values())["total"],
    }


def _same(mine: tuple[int, ...], theirs: tuple[int, ...]) -> list[bool]:
    """Return for every token whether the replies are equal up to and including it."""
    return [mine[: i + 1] == theirs[: i + 1] for i in range(min(len(mine), len(theirs)))]
