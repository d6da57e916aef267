import math
import warnings

import pytest
import torch

from interp.data.tokens import Segment
from interp.interventions.attention import ScalePattern, ScaleScores
from interp.taps.audit import Audit, NothingChanged

SCALE = ScaleScores(Segment.USER, 2.0)


def test_nan_is_reported_as_nan_and_is_a_change():
    audit = Audit([SCALE])
    audit.note(0, torch.zeros(1, 1, 1, 3), torch.tensor([0.0, math.nan, 1.0]).view(1, 1, 1, 3), 0)
    assert math.isnan(audit[0].largest)
    assert math.isnan(audit[0].mean)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NothingChanged)
        audit.close()


def test_figures_are_rounded_where_they_are_shown_and_whole_where_they_are_read():
    audit = Audit([ScalePattern(Segment.USER, 2.0)])
    audit.note(0, torch.zeros(1, 1, 1, 3), torch.full((1, 1, 1, 3), 1 / 3), 4)
    assert audit[0].largest == pytest.approx(1 / 3, rel=1e-6)
    assert "1 calls in layers [4], largest change 0.333, mean 0.333, row sums off by up to" in repr(audit)
    assert "0.333" in audit._repr_html_()
    assert "0.3333" not in audit._repr_html_()


def test_it_is_a_sequence_in_the_order_of_the_interventions():
    first, second = ScaleScores(Segment.USER, 2.0), ScaleScores(Segment.USER, 3.0)
    audit = Audit([first, second])
    assert [f.intervention for f in audit] == [first, second]
    assert [f.intervention for f in audit[1:]] == [second]
    assert (len(audit), repr(Audit([]))) == (2, "no intervention")
