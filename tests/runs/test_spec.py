"""The spec of a run: its samples."""

from dataclasses import replace

import pytest

from interp.bench.base import Sample
from interp.runs.spec import build_spec, limit_samples


def test_a_limit_is_spread_over_the_parts_in_whole_groups() -> None:
    samples = [Sample(f"{p}{g}{i}", "What?", part=p, group=f"{p}{g}") for p in "ab" for g in range(4) for i in range(2)]
    assert [s.id for s in limit_samples(samples, 7)] == ["a00", "a01", "a10", "a11", "b00", "b01"]
    assert [s.id for s in limit_samples(samples, 1)] == ["a00"]
    assert limit_samples(samples, 16) == limit_samples(samples, 99) == samples
    assert len(limit_samples([Sample(f"{i}", "What?") for i in range(5)], 3)) == 3


def test_samples_need_names_of_their_own(model_of, letters, monkeypatch) -> None:
    plain = letters.samples
    monkeypatch.setattr(letters, "samples", lambda self: [replace(s, id="q") for s in plain(self)])
    with pytest.raises(ValueError, match="has several samples with the same id: q"):
        build_spec(model_of("llava"), letters())
    monkeypatch.setattr(letters, "samples", lambda self: [])
    with pytest.raises(ValueError, match="has no sample"):
        build_spec(model_of("llava"), letters())
