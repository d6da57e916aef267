import pytest
import torch

import interp
from interp.analysis.base import on_capture
from interp.analysis.rows import AttentionRows
from interp.data.tokens import EMITTING, PREDICTING, Segment


@pytest.fixture
def seen(model_of, picture):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is there?", response="A red chair")
    return model, prompt, interp.capture(model, prompt, want={"pattern"})


def test_every_token_of_a_reply_has_the_row_before_it(seen) -> None:
    model, prompt, capture = seen
    found = interp.measure(model, prompt, AttentionRows())
    reply = prompt.layout.positions(Segment.RESPONSE)
    assert found.queries == tuple(p - 1 for p in reply) == prompt.layout.positions(PREDICTING)
    torch.testing.assert_close(found.attention, capture.pattern[:, :, list(found.queries)].float())
    assert found.labels["head"] == list(range(model.heads))
    torch.testing.assert_close(on_capture(AttentionRows(), capture).attention, found.attention)


def test_heads_can_be_averaged_and_other_rows_chosen(seen) -> None:
    model, prompt, capture = seen
    found = interp.measure(model, prompt, AttentionRows("mean", EMITTING))
    assert found.queries[-1] == len(prompt) - 1
    torch.testing.assert_close(found.attention[:, 0], capture.pattern[:, :, list(found.queries)].float().mean(1))
    torch.testing.assert_close(found.attention.sum(-1), torch.ones(found.attention.shape[:3]))
    assert found.labels["head"] == ["mean"]


def test_an_unknown_way_to_put_heads_together(unchecked) -> None:
    with pytest.raises(ValueError, match="heads is one of each, mean, got 'max'"):
        AttentionRows(heads="max")
