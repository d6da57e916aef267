import pytest
import torch

import interp
from interp.families.base import family
from interp.interventions.function import Apply


@pytest.mark.parametrize("kind", ["llama", "llava"])
def test_what_no_gradient_reaches_has_a_gradient_of_zero(kind, model_of, picture):
    """An intervention cuts the graph off in the last layer: nothing below it has a gradient, its own pattern neither."""
    model = model_of(kind)
    prompt = model.prepare(picture() if model.family.image_token else None, "What is it?", response="a cat")
    cut = Apply("z", lambda value, here: value.detach() * 2, layers=(model.layers - 1,))
    whole = interp.capture(model, prompt, grad={"pattern", "resid_mid"}, target=0)
    found = interp.capture(model, prompt, grad={"pattern", "resid_mid"}, target=0, interventions=[cut])
    assert not bool(found.pattern_grad[-1].any())
    assert bool(whole.pattern_grad[-1].any())
    assert bool(found.resid_mid_grad[-1].any())
    torch.testing.assert_close(found.pattern[0], whole.pattern[0], rtol=0, atol=0)


def test_a_captured_model_is_not_wrapped_by_nnsight():
    module, processor = family("gpt2").tiny()
    model = interp.load(module, processor=processor)
    interp.capture(model, model.prepare(text="What is it?", response="a cat"), grad={"pattern"}, target=0)
    assert model._seen is None
