"""The results of several prompts (`Samples`): stacked arrays, means, bootstrap intervals, and the prompts that failed (`Failure`)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, final

import pandas as pd
import torch
from jaxtyping import Inexact
from torch import Tensor

from interp.data.result import Result
from interp.data.short_repr import short_repr

ResultT = TypeVar("ResultT", bound=Result)


@final
@dataclass(frozen=True)
class Failure:
    """A sample that could not be measured, and the reason."""

    sample: int
    reason: str


@final
@dataclass(frozen=True, eq=False)
class Samples(Generic[ResultT]):
    """One result per prompt.

    Args:
        results: the results of the prompts that could be measured.
        samples: the index of the prompt of each result.
        failed: the prompts that could not be measured.
    """

    results: tuple[ResultT, ...] = field(repr=False)
    samples: tuple[int, ...]
    failed: tuple[Failure, ...] = ()

    def __repr__(self) -> str:
        """Return one line, with the sizes of arrays instead of their values."""
        return short_repr(self)

    def __len__(self) -> int:
        """Return the number of results."""
        return len(self.results)

    def __iter__(self) -> Iterator[ResultT]:
        """Iterate over the results."""
        return iter(self.results)

    def __getitem__(self, index: int) -> ResultT:
        """Return one result."""
        return self.results[index]

    def stack(self, name: str | None = None) -> Inexact[Tensor, "sample ..."]:
        """Return one array of all results, stacked on a `sample` axis; shorter arrays (fewer tokens) are padded with NaN.

        Raises:
            KeyError: the results have no array of this name.
            ValueError: no sample could be measured.
        """
        arrays = [getattr(r, self._name(name)) for r in self.results]
        arrays = [a if a.is_complex() else a.float() for a in arrays]
        if not arrays:
            raise ValueError(
                f"none of the {len(self.failed)} samples could be measured; "
                f"the first failed with: {self.failed[0].reason if self.failed else 'no prompt'}"
            )
        size = [max(sizes) for sizes in zip(*(a.shape for a in arrays), strict=True)]
        whole = torch.full((len(arrays), *size), torch.nan, dtype=arrays[0].dtype)
        for row, array in zip(whole, arrays, strict=True):
            row[tuple(slice(n) for n in array.shape)] = array
        return whole

    def mean(self, name: str | None = None) -> Inexact[Tensor, "..."]:
        """Return the mean over samples; NaN if no sample has a value."""
        whole = self.stack(name)
        return torch.complex(whole.real.nanmean(0), whole.imag.nanmean(0)) if whole.is_complex() else whole.nanmean(0)

    def interval(
        self, name: str | None = None, *, level: float = 0.95, resamples: int = 1000, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Return the bounds of the bootstrap percentile interval of the mean.

        Raises:
            ValueError: the level is outside (0, 1), or the array is complex.
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
        """Return the HTML that a notebook shows: the mean of the summary over samples, and the samples that failed."""
        from interp.data import display

        parts = [display.note_html(f"{len(self)} measured, {len(self.failed)} failed")]
        if self.results:
            first, name = self.results[0], self._name(None)
            axes, labels = first.axes()[name], getattr(first, "labels", {})
            parts.append(display.array_html(self.mean(), f"{name}, mean over samples", axes, labels))
        if self.failed:
            parts.append(display.table_html(("sample", "why it failed"), [(f.sample, f.reason) for f in self.failed]))
        return display.card(f"Samples of {type(self.results[0]).__name__}" if self.results else "Samples", *parts)

    def _name(self, name: str | None) -> str:
        if not self.results:
            return name or ""
        known: dict[str, Any] = self.results[0].axes()
        name = name or self.results[0].summary_field()
        if name not in known:
            raise KeyError(f"{type(self.results[0]).__name__} has no array {name!r}; it has {', '.join(sorted(known))}")
        return name
