import copy

import pytest
import torch

import interp
from interp.data.tokens import EMITTING, Segment
from interp.families.base import family
from interp.methods.clva import Clva

STRONG = Clva(tau=0.5, part="decoder")


def test_it_conforms(seeing, conforms):
    conforms(seeing, STRONG, Clva(0.0, 0.0, part="decoder"))


@pytest.fixture(scope="module")
def deep():
    """An InstructBLIP whose Q-Former looks at the image three times, and the same without taps."""
    small, processor = family("instructblip").tiny()
    config = copy.deepcopy(small.config)
    config.qformer_config.num_hidden_layers = 6
    torch.manual_seed(0)
    module = type(small)(config).eval().requires_grad_(False)
    torch.nn.init.normal_(module.query_tokens)
    return interp.load(copy.deepcopy(module), processor=processor), module


def test_the_form_for_q_formers_conforms(deep, conforms):
    conforms(deep[0], Clva(tau=0.5), Clva(0.0, 0.0))


def test_bfloat16_does_not_turn_it_off(model_of, answered, under):
    model = model_of("llava", torch.bfloat16)
    prompt = answered(model)
    assert not torch.equal(under(model, prompt, STRONG), under(model, prompt))


def group(looks, most):
    """Return the heads beyond one standard deviation, or the single best."""
    sign = 1 if most else -1
    chosen = [h for h in range(len(looks)) if sign * (looks[h] - looks.mean()) > looks.std(correction=0)]
    return chosen or [int((sign * looks).argmax())]


def anchors(pattern, heads, row, image, tau):
    seen = pattern[heads][:, row][:, image].mean(0)
    return (seen - seen.mean()) / (seen.std(correction=0) + 1e-9) > tau


@pytest.mark.parametrize("kind", ["llava", "internvl"])
@pytest.mark.parametrize("rows", ["emitting", "text"])
def test_it_is_the_paper_s_equations_row_by_row(model_of, answered, under, by_hand, kind, rows):
    model = model_of(kind)
    prompt = answered(model)
    image = list(prompt.layout.positions(Segment.IMAGE))
    user = prompt.layout.positions(Segment.USER)
    state = {}

    def reanchor(layer, pattern):
        pattern = pattern.clone()
        if layer == 0:  # of two layers the first is the middle one too
            looks = pattern[0][:, user][:, :, image].sum(-1).mean(-1)
            state.update(pattern=pattern[0].clone(), most=group(looks, True), least=group(looks, False))
            return pattern
        edited = prompt.layout.positions(EMITTING | Segment.USER if rows == "text" else EMITTING)
        for row in edited:
            of = user[-1] if rows == "text" and row in user else row
            zpos = anchors(state["pattern"], state["most"], of, image, 0.5)
            zneg = anchors(state["pattern"], state["least"], of, image, 0.5)
            a = pattern[0, :, row]
            a[:, image] *= 1 + 14 * zpos.float() - 0.9 * zneg.float()
            a /= a.sum(-1, keepdim=True)
        return pattern

    expected = by_hand(model, prompt, pattern=reanchor)
    method = Clva(tau=0.5, rows=rows, part="decoder")
    torch.testing.assert_close(under(model, prompt, method), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, under(model, prompt), atol=1e-3)


def test_in_a_q_former_every_query_is_held_to_its_own_patches(deep, answered, under, by_hand):
    model, plain = deep
    prompt = answered(model)
    state = {}

    def reanchor(layer, pattern):
        pattern = pattern.clone()
        patches = list(range(1, pattern.shape[-1]))
        if layer == 0:
            looks = pattern[0][:, :, patches].sum(-1).mean(-1)
            state.update(pattern=pattern[0].clone(), most=group(looks, True), least=group(looks, False))
            return pattern
        for row in range(pattern.shape[2]):
            zpos, zneg = (anchors(state["pattern"], state[g], row, patches, 0.5) for g in ("most", "least"))
            a = pattern[0, :, row]
            a[:, 1:] *= 1 + 14 * zpos.float() - 0.9 * zneg.float()
            a /= a.sum(-1, keepdim=True)
        return pattern

    expected = by_hand(model, prompt, pattern=reanchor, inside="crossattention", plain=plain)
    torch.testing.assert_close(under(model, prompt, Clva(tau=0.5)), expected, rtol=1e-4, atol=1e-5)


def test_where_it_acts(model_of, deep):
    assert Clva().interventions(model_of("llava"))[0].part == "decoder"
    assert Clva().interventions(deep[0])[0].part == "cross"

    class Deep:
        layers = 32
        module = model_of("llava").module

    change = Clva().interventions(Deep)[0]
    assert change.middle == 14
    assert change.layers == (0, *range(14, 32))


def test_what_it_does_not_fit(model_of):
    assert "this is a language model" in Clva().refusal(model_of("qwen2"))
    assert "it has no Q-Former" in Clva(part="cross").refusal(model_of("llava"))
    assert "middle=0 leaves no layer after it: the Q-Former's cross-attention has layers 0..0" in Clva().refusal(
        model_of("instructblip")
    )
    assert "middle=1 leaves no layer after it" in Clva(middle=1).refusal(model_of("llava"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"negative": 1.5}, r"positive is at least 0 and negative in \[0, 1\]"),
        ({"rows": "all"}, "rows is 'emitting' or 'text'"),
        ({"part": "cross", "rows": "text"}, "rows='text' applies to the decoder only"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_settings_without_a_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Clva(**settings)


def test_re_anchoring_the_prompt_s_text_too_conforms(model_of, conforms):
    conforms(model_of("qwen2_5_vl"), Clva(tau=0.5, rows="text"))
