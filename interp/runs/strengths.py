"""The table of a sweep over heads: how much probability the tokens of replies lose without each head."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import pandas as pd
import torch

from interp.analysis.sensitivity import Erasure
from interp.data.results import Samples
from interp.runs.table_formats import flatten, format_table

_SHOWN = 20
"""Heads in the text forms of the table."""
_COLUMNS = ("change", "change_low", "change_high")


@final
@dataclass(frozen=True, eq=False)
class HeadStrengths:
    """Heads by how much probability the tokens of replies lose without them, the largest change first.

    `frame` has one row per head: `layer`, `head`, `change` (the mean over replies of their tokens' mean ΔP, see `Erasure.change`),
    and `change_low` and `change_high`, the bounds of its 95 % bootstrap interval over replies.

    Args:
        about: what all rows have in common.
        frame: the rows.
    """

    about: Mapping[str, Any]
    frame: pd.DataFrame

    def flat(self) -> pd.DataFrame:
        """Return the frame with the entries of `about` as columns."""
        return flatten(self.about, self.frame)

    def render(self, how: str, *, parts: bool = False) -> str:
        """Return the table as `text`, `csv`, `markdown` or `latex`; `csv` always has all heads, the others the first 20 by default.

        Args:
            how: the format.
            parts: whether to show every head.

        Raises:
            ValueError: an unknown format.
        """
        if how == "csv":
            return self.flat().to_csv(index=False)
        some = self.frame if parts else self.frame.head(_SHOWN)
        about = {**self.about, "shown": f"{len(some)} of {len(self.frame)} heads"}
        rows: Any = some.to_dict("records")
        cells = [
            [str(r["layer"]), str(r["head"]), f"{r['change']:+.4f} [{r['change_low']:.4f}, {r['change_high']:.4f}]"]
            for r in rows
        ]
        return format_table(how, " · ".join(f"{n} {v}" for n, v in about.items()), ["layer", "head", "ΔP"], cells)


def rank_heads(swept: Samples[Erasure], about: Mapping[str, Any], *, draws: int = 2000, seed: int = 0) -> HeadStrengths:
    """Return the table of a sweep over heads.

    Args:
        swept: the result of `sweep(..., over="heads")`.
        about: what was swept, by name.
        draws: the number of bootstrap draws.
        seed: seed of the draws.

    Raises:
        ValueError: `swept` is empty.
    """
    if not len(swept):
        raise ValueError("the sweep has no reply; heads are erased from replies")
    each = torch.stack([one.change().mean(-1) for one in swept])
    drawn = torch.randint(len(each), (draws, len(each)), generator=torch.Generator().manual_seed(seed))
    means = torch.stack([each[d].mean(0) for d in drawn])
    low, mean, high = means.quantile(0.025, dim=0), each.mean(0), means.quantile(0.975, dim=0)
    found = [
        {"layer": i, "head": j, **{n: float(v[i, j]) for n, v in zip(_COLUMNS, (mean, low, high), strict=True)}}
        for i, j in mean.isfinite().nonzero().tolist()
    ]
    found.sort(key=lambda row: -abs(row["change"]))
    return HeadStrengths({**about, "replies": len(swept), "failed": len(swept.failed)}, pd.DataFrame(found))
