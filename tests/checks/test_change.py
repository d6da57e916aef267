"""The checks of interventions pass on a sound one, and fail on seeded faults."""

import pytest

from interp import EMITTING
from interp.checks.change import DECODING, EDITS
from interp.interventions.attention import ScaleScores
from interp.interventions.function import Apply
from interp.testing import check_intervention

STRONG, NEUTRAL = (ScaleScores(keys=1, by=by, queries=EMITTING, mode="abs") for by in (3.0, 1.0))


def first_key_only(pattern, here):
    """Attend to the first column of the batch, which is padding in the shorter conversation."""
    moved = pattern.clone()
    moved[..., 0] += 0.5
    return moved


def test_a_sound_intervention_passes_every_check(model_of):
    done = check_intervention(model_of("llava"), STRONG, NEUTRAL)
    assert {c.name: c.detail for c in done if not c.passed} == {}
    assert [c.name for c in done] == [*EDITS, *DECODING]


@pytest.mark.parametrize(
    ("strong", "neutral", "check"),
    [
        (STRONG, STRONG, "neutral"),
        (NEUTRAL, None, "strong"),
        (Apply("pattern", lambda pattern, here: pattern.flip(-1)), None, "causal"),
        (Apply("pattern", first_key_only), None, "batch = single"),
        (NEUTRAL, None, "first token"),
        (STRONG, STRONG, "neutral decoding"),
    ],
    ids=["neutral", "strong", "causal", "batch", "first", "decoding"],
)
def test_a_fault_is_noticed(model_of, strong, neutral, check):
    failed = {c.name for c in check_intervention(model_of("llava"), strong, neutral) if not c.passed}
    assert check in failed
