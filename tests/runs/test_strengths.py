"""Heads ranked by how much probability replies lose without them."""

import pytest
import torch

from interp.analysis.sensitivity import Erasure
from interp.data.results import Failure, Samples
from interp.runs.strengths import HeadStrengths, rank_heads


class Erased:
    """Stands for an erasure with known changes, one per layer, head and token."""

    def __init__(self, change: torch.Tensor) -> None:
        self._change = change

    def change(self) -> torch.Tensor:
        return self._change


@pytest.fixture
def ranked(unchecked) -> HeadStrengths:
    changes = torch.zeros(2, 2, 3)
    changes[0, 1], changes[1, 0] = 0.2, -0.5
    changes[1, 1] = float("nan")  # not erased
    swept = Samples((Erased(changes), Erased(changes + 0.1)), (0, 2), (Failure(1, "lost"),))
    return rank_heads(swept, {"model": "tiny"}, draws=200)


def test_the_largest_change_comes_first_whatever_its_sign(ranked) -> None:
    frame = ranked.frame
    assert list(zip(frame["layer"], frame["head"], strict=True)) == [(1, 0), (0, 1), (0, 0)]
    assert frame["change"].tolist() == pytest.approx([-0.45, 0.25, 0.05])
    assert (frame["change_low"] <= frame["change"]).all()
    assert (frame["change"] <= frame["change_high"]).all()
    assert (ranked.about["replies"], ranked.about["failed"]) == (2, 1)


def test_text_shows_the_first_heads_and_csv_all(ranked, monkeypatch) -> None:
    monkeypatch.setattr("interp.runs.strengths._SHOWN", 1)
    assert "shown 1 of 3 heads" in ranked.render("text")
    assert "shown 3 of 3 heads" in ranked.render("markdown", parts=True)
    assert len(ranked.render("csv").splitlines()) == 4
    assert ranked.flat()["model"].tolist() == ["tiny"] * 3
    with pytest.raises(ValueError, match="the format of a table is one of text, csv, markdown, latex, not 'pdf'"):
        ranked.render("pdf")


def test_a_sweep_without_replies_is_refused(unchecked) -> None:
    with pytest.raises(ValueError, match="the sweep has no reply"):
        rank_heads(Samples[Erasure]((), (), ()), {})
