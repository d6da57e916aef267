"""The results of many prompts, stacked, averaged and bounded."""

from dataclasses import dataclass
from typing import final

import pytest
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from interp.data.result import Result
from interp.data.results import Failure, Samples


@final
@dataclass(frozen=True)
class Spectra(Result):
    mass: Float[Tensor, " token"]
    eigenvalues: Complex[Tensor, " dim"]

    @classmethod
    def summary_field(cls):
        return "mass"


SAMPLES = Samples(
    (
        Spectra(torch.tensor([1.0, 2.0]), torch.tensor([1 + 2j])),
        Spectra(torch.tensor([3.0, 4.0, 5.0]), torch.tensor([3 - 4j])),
    ),
    (0, 2),
    (Failure(1, "no image"),),
)


def test_shorter_arrays_are_filled_up_with_nan():
    expected = torch.tensor([[1.0, 2.0, torch.nan], [3.0, 4.0, 5.0]])
    torch.testing.assert_close(SAMPLES.stack(), expected, equal_nan=True)
    torch.testing.assert_close(SAMPLES.mean(), torch.tensor([2.0, 3.0, 5.0]))
    assert SAMPLES.frame()["sample"].tolist() == [0, 0, 2, 2, 2]


def test_complex_arrays_keep_their_imaginary_part():
    torch.testing.assert_close(SAMPLES.stack("eigenvalues"), torch.tensor([[1 + 2j], [3 - 4j]]))
    torch.testing.assert_close(SAMPLES.mean("eigenvalues"), torch.tensor([2 - 1j]))
    with pytest.raises(ValueError, match="eigenvalues is complex, and complex numbers have no percentiles"):
        SAMPLES.interval("eigenvalues")


def test_the_interval_holds_the_mean_and_repeats():
    low, high = SAMPLES.interval(resamples=200)
    assert bool((low <= SAMPLES.mean()).all())
    assert bool((SAMPLES.mean() <= high).all())
    torch.testing.assert_close(SAMPLES.interval(resamples=200)[0], low, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"between 0 and 1, got 2\.0"):
        SAMPLES.interval(level=2.0)


def test_no_result_says_why():
    with pytest.raises(ValueError, match="none of the 1 samples could be measured; the first failed with: no image"):
        Samples((), (), (Failure(1, "no image"),)).stack()
