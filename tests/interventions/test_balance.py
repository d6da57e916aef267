import pytest
import torch

from interp.data.heads import Heads
from interp.data.layout import Layout
from interp.data.tokens import EMITTING, Segment
from interp.interventions.balance import RaiseScores, ReweightPattern
from interp.taps.running import Pass
from interp.taps.state import Conversations, PassState

TEXT, IMAGE = Segment.USER, Segment.SYSTEM
CONVERSATION = Layout(torch.tensor([1, 1, 3, 3]))
EXAMPLES = {
    "reweight": lambda model: (
        ReweightPattern(Segment.USER, 0, 0.1, 3.0, 0.01),
        ReweightPattern(Segment.USER, 0, 1.0, 1.0),
    ),
    "raise": lambda model: (RaiseScores(0, 1.5, EMITTING), RaiseScores(0, 0.0, EMITTING)),
}
"""A strong and a neutral setting of every kind, for `test_every_kind`; a neutral one often takes tokens that no prompt has."""


def act(change, value):
    roles = Conversations((CONVERSATION,))
    return change(value, Pass(PassState(roles)).here("decoder", change.site, 0, value))


ROWS = torch.tensor([[0.4, 0.4, 0.1, 0.1], [0.2, 0.2, 0.3, 0.3]])


def test_rows_that_give_the_source_too_much_are_reweighted():
    value = ROWS.repeat(2, 1).view(1, 1, 4, 4)
    got = act(ReweightPattern(TEXT, IMAGE, 0.5, 2.0, above=0.5), value)
    torch.testing.assert_close(got[0, 0, 0], ROWS[0])
    torch.testing.assert_close(got[0, 0, 1], torch.tensor([0.4, 0.4, 0.15, 0.15]))


def test_they_can_be_renormalised_and_kept_to_rows_and_heads():
    value = ROWS[1].expand(1, 2, 4, 4)
    change = ReweightPattern(TEXT, IMAGE, 0.5, 2.0, queries=[3], heads=Heads(((0, 1),)), renormalize="row")
    got = act(change, value)
    torch.testing.assert_close(got[0, 0], value[0, 0])
    torch.testing.assert_close(got[0, 1, :3], value[0, 1, :3])
    torch.testing.assert_close(got[0, 1, 3], torch.tensor([0.4, 0.4, 0.15, 0.15]) / 1.1)


def test_scores_are_raised_by_the_head_mean_of_their_size():
    value = torch.tensor([[1.0, -2.0, 3.0, 0.0], [-3.0, 2.0, 1.0, 0.0]]).view(1, 2, 1, 4).expand(1, 2, 4, 4)
    got = act(RaiseScores([0, 1], 0.5, queries=[3]), value)
    torch.testing.assert_close(got[0, 0, 3], torch.tensor([2.0, -1.0, 3.0, 0.0]))
    torch.testing.assert_close(got[0, 1, 3], torch.tensor([-2.0, 3.0, 1.0, 0.0]))
    torch.testing.assert_close(got[0, :, :3], value[0, :, :3])


@pytest.mark.usefixtures("unchecked")
def test_settings_without_a_meaning_are_refused():
    with pytest.raises(ValueError, match=r"a probability cannot be scaled by -1\.0; give factors of 0 or more"):
        ReweightPattern(TEXT, IMAGE, -1.0, 2.0)
    with pytest.raises(ValueError, match="renormalize is 'none', 'row' or 'segment', got 'all'"):
        ReweightPattern(TEXT, IMAGE, 1.0, 2.0, renormalize="all")
