"""The results of many prompts, stacked on a `sample` axis, with means and bootstrap intervals; samples that failed are named."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, final

import pandas as pd
import torch
from jaxtyping import Inexact
from torch import Tensor

from interp.data.result import Result
from interp.data.short_repr import short_repr

R = TypeVar("R", bound=Result)


@final
@dataclass(frozen=True)
class Failure:
    """A sample that could not be measured, and why."""

    sample: int
    reason: str


@final
@dataclass(frozen=True, eq=False)
class Samples(Generic[R]):
    """One result a prompt.

    Args:
        results: the results of the prompts that could be measured.
        samples: which prompt each belongs to.
        failed: the prompts that could not be.
    """

    results: tuple[R, ...] = field(repr=False)
    samples: tuple[int, ...]
    failed: tuple[Failure, ...] = ()

    def __repr__(self) -> str:
        """Return a short form: arrays as their sizes."""
        return short_repr(self)

    def __len__(self) -> int:
        """Return how many results there are."""
        return len(self.results)

    def __iter__(self) -> Iterator[R]:
        """Go through the results."""
        return iter(self.results)

    def __getitem__(self, index: int) -> R:
        """Return one result."""
        return self.results[index]

    def stack(self, name: str | None = None) -> Inexact[Tensor, "sample ..."]:
        """Return one array of all results on a `sample` axis; shorter ones (other token counts) are filled up with NaN.

        Raises:
            KeyError: the results have no such array.
            ValueError: there is no result at all.
        """
        arrays = [getattr(r, self._name(name)) for r in self.results]
        arrays = [a if a.is_complex() else a.float() for a in arrays]
        if not arrays:
            raise ValueError(
                f"none of {len(self.failed)} samples could be measured; "
                f"the first said: {self.failed[0].reason if self.failed else 'no prompt'}"
            )
        size = [max(sizes) for sizes in zip(*(a.shape for a in arrays), strict=True)]
        whole = torch.full((len(arrays), *size), torch.nan, dtype=arrays[0].dtype)
        for row, array in zip(whole, arrays, strict=True):
            row[tuple(slice(n) for n in array.shape)] = array
        return whole

    def mean(self, name: str | None = None) -> Inexact[Tensor, "..."]:
        """Return the mean over samples; NaN where no sample has a value."""
        whole = self.stack(name)
        return torch.complex(whole.real.nanmean(0), whole.imag.nanmean(0)) if whole.is_complex() else whole.nanmean(0)

    def interval(
        self, name: str | None = None, *, level: float = 0.95, resamples: int = 1000, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Return the bounds of the bootstrap percentile interval of the mean.

        Raises:
            ValueError: a level outside (0, 1), or a complex array.
        """
        if not 0 < level < 1:
            raise ValueError(f"level is a probability between 0 and 1, got {level}")
        whole = self.stack(name)
        if whole.is_complex():
            raise ValueError(f"{self._name(name)} is complex, and complex numbers have no percentiles")
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randint(len(whole), (resamples, len(whole)), generator=generator)
        means = torch.stack([whole[d].nanmean(0) for d in drawn])
        low, high = (means.nanquantile(q, dim=0) for q in ((1 - level) / 2, (1 + level) / 2))
        return low, high

    def frame(self, name: str | None = None) -> pd.DataFrame:
        """Return one array of all results as a tidy table with a `sample` column."""
        tables = [r.frame(self._name(name)).assign(sample=i) for i, r in zip(self.samples, self.results, strict=True)]
        return pd.concat(tables, ignore_index=True)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the mean of the summary over samples, and the samples that failed."""
        from interp.data import display

        parts = [display.note(f"{len(self)} measured, {len(self.failed)} failed")]
        if self.results:
            first, name = self.results[0], self._name(None)
            axes, labels = first.axes()[name], getattr(first, "labels", {})
            parts.append(display.summary(self.mean(), f"{name}, mean over samples", axes, labels))
        if self.failed:
            parts.append(display.table(("sample", "why it failed"), [(f.sample, f.reason) for f in self.failed]))
        return display.card(f"Samples of {type(self.results[0]).__name__}" if self.results else "Samples", *parts)

    def _name(self, name: str | None) -> str:
        if not self.results:
            return name or ""
        known: dict[str, Any] = self.results[0].axes()
        name = name or self.results[0].summary_field()
        if name not in known:
            raise KeyError(f"{type(self.results[0]).__name__} has no array {name!r}; it has {', '.join(sorted(known))}")
        return name
