"""The formula of contrastive decoding and its logits processor, without a model; with models see tests/methods/test_contrast.py."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.decoding.second_stream import check_strength, constant_strength, contrast_logits
from interp.methods.contrast import Contrast


@given(st.floats(0, 5), st.floats(0.01, 1))
def test_only_plausible_tokens_are_left_and_the_likeliest_always_is(alpha, beta):
    logits, others = torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(0))
    got = contrast_logits(logits, others, alpha, beta)
    plausible = logits.softmax(-1) >= beta * logits.softmax(-1).amax(-1, keepdim=True) * (1 - 1e-5)
    assert (got.isfinite() <= plausible).all()
    assert got.gather(-1, logits.argmax(-1, keepdim=True)).isfinite().all()
    kept = got.isfinite()
    torch.testing.assert_close(got[kept], ((1 + alpha) * logits - alpha * others)[kept])


def test_without_a_bound_every_token_of_the_first_stream_is_left():
    logits, others = torch.tensor([0.0, -torch.inf, 2.0]), torch.tensor([1.0, -torch.inf, -torch.inf])
    got = contrast_logits(logits, others, 0.0, 0.0)
    torch.testing.assert_close(got[:2], logits[:2])
    assert torch.equal(constant_strength(0.5, 0.1)(logits, logits, 7), contrast_logits(logits, logits, 0.5, 0.1))


@pytest.mark.parametrize("strength", [(-1.0, 0.1), (1.0, -0.1), (1.0, 1.1)])
def test_a_strength_out_of_range_is_refused(strength):
    with pytest.raises(ValueError, match=r"alpha is at least 0 and beta a share in \[0, 1\], got"):
        check_strength(*strength)


def test_more_replies_than_the_second_stream_has_are_refused(model_of, picture):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is there?")
    rule = Contrast().rules(model, [prompt])[0]
    with pytest.raises(ValueError, match="the second stream follows 1 replies but 2 are decoded"):
        rule(torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 5))
