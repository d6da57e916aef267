"""How much of what a model answers hangs on how it is computed: batch size and attention."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import pandas as pd

from interp.bench.base import Benchmark, compute_scores
from interp.interventions.method import Method
from interp.models.model import Model
from interp.runs.answers import Answers
from interp.runs.asking import Questioning, ask
from interp.runs.identity import method_name
from interp.runs.run import chosen, questioning
from interp.runs.writing import flat, written


@final
@dataclass(frozen=True, eq=False)
class Stability:
    """The same questions, computed in several ways that would agree if sums were exact.

    `frame` has one row a way: its `batch_size` and `attention`; `n`, the samples with a reply here and in the first row;
    `replies`, how many of those replies are other tokens than there; `answers`, how many are read otherwise; the greatest
    difference of a log-probability up to where replies part (`logprob`); and the scores of the whole.

    Args:
        about: what all rows share.
        frame: the rows.
        headline: the scores to show.
    """

    about: Mapping[str, Any]
    frame: pd.DataFrame
    headline: tuple[str, ...]

    def __str__(self) -> str:
        """Return the table as text."""
        return self.written("text")

    def flat(self) -> pd.DataFrame:
        """Return the frame with what all rows share in columns of its own."""
        return flat(self.about, self.frame)

    def written(self, how: str) -> str:
        """Return the table as `text`, `csv`, `markdown` or `latex`.

        Raises:
            ValueError: another way.
        """
        if how == "csv":
            return self.flat().to_csv(index=False)
        shown = ["batch_size", "attention", "n", "replies", "answers", "logprob", *self.headline]
        rows = [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in line] for line in self.frame[shown].to_numpy()]
        heads = ["batch size", "attention", "n", "other replies", "other answers", "Δ logprob", *self.headline]
        return written(how, " · ".join(f"{n} {v}" for n, v in self.about.items()), heads, rows)


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
    """Return how many replies and answers change with the batch size and with how attention is computed.

    A batch of one is set against one of `batch_size`, and explicit attention (every score and weight, as eager attention computes
    them) against sdpa. Replies under float16 and bfloat16 change more often than under float32.

    Args:
        model: a model, or the name of one.
        benchmark: a benchmark, or one in words.
        method: the method under which it is asked; the model as it is by default.
        batch_size: the size of the batches that single samples are set against.
        folder: where run directories are.
        progress: whether to show a bar for each way.
        settings: more of `run`: `limit`, `seed`, `system_prompt`, and options of `generate`.

    Raises:
        ValueError: as `run` does.
    """
    made = chosen(model, benchmark, [] if method is None else [method])
    asked = {n: settings.pop(n) for n in ("limit", "seed", "system_prompt") if n in settings}
    what = questioning(made.model, made.benchmark, batch_size=batch_size, options=settings, **asked)
    ways = (what, replace(what, batch_size=1), replace(what, attention="explicit"))
    under = made.methods[-1]
    found = [_answers(way, under, folder, progress=progress) for way in ways]
    rows = [_line(way, answers, found[0]) for way, answers in zip(ways, found, strict=True)]
    about = {
        "model": made.model.name,
        "dtype": str(made.model.dtype).removeprefix("torch."),
        "benchmark": type(made.benchmark).__name__.lower(),
        "method": method_name(under),
    }
    return Stability(about, pd.DataFrame(rows), tuple(made.benchmark.headline))


def _answers(what: Questioning, method: Method | None, folder: str | Path, *, progress: bool) -> Answers:
    name = f"batch {what.batch_size}, {what.attention}"
    return Answers.of(ask(what, method, folder, progress=progress), what.benchmark, name)


def _line(what: Questioning, one: Answers, first: Answers) -> dict[str, Any]:
    there = {r.id: r for r in first.rows if not r.error}
    pairs = [(r, there[r.id]) for r in one.rows if r.id in there and not r.error]
    apart = [
        abs(a - b)
        for mine, theirs in pairs
        for a, b, same in zip(mine.logprobs, theirs.logprobs, _same(mine.ids, theirs.ids), strict=False)
        if same and a is not None and b is not None
    ]
    return {
        "batch_size": what.batch_size,
        "attention": what.attention,
        "n": len(pairs),
        "replies": sum(mine.ids != theirs.ids for mine, theirs in pairs),
        "answers": sum(one.read[r.id][1] != first.read[r.id][1] for r, _ in pairs),
        "logprob": max(apart, default=0.0),
        **compute_scores(what.benchmark, one.read.values())["total"],
    }


def _same(mine: tuple[int, ...], theirs: tuple[int, ...]) -> list[bool]:
    """Return for every token whether the replies are the same up to and with it."""
    return [mine[: i + 1] == theirs[: i + 1] for i in range(min(len(mine), len(theirs)))]
