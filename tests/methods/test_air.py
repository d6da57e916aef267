import pytest
import torch

from interp.data.heads import Heads
from interp.data.tokens import EMITTING, Segment
from interp.methods.air import Air, ReleasedProjection

SOME = Heads(((0, 1), (1, 3)))
NEUTRAL = Air(SOME, visual_gain=1.0, text_gain=1.0, beta=0.0)


def test_it_conforms(seeing, conforms):
    conforms(seeing, Air(SOME, tau_text=0.01), NEUTRAL)


def test_bfloat16_does_not_turn_it_off(model_of, answered, under):
    model = model_of("llava", torch.bfloat16)
    prompt = answered(model)
    assert not torch.equal(under(model, prompt, Air(SOME)), under(model, prompt))


@pytest.mark.parametrize("kind", ["llava", "internvl"])
@pytest.mark.parametrize("renormalize", ["none", "row"])
def test_it_is_reallocation_then_shrinking_row_by_row(model_of, answered, under, by_hand, kind, renormalize):
    model = model_of(kind)
    prompt = answered(model)
    text = torch.tensor(prompt.layout.positions(Segment.USER | Segment.RESPONSE))
    image = torch.tensor(prompt.layout.positions(Segment.IMAGE))

    def rectify(layer, pattern):
        pattern = pattern.clone()
        for head in SOME.of_layer(layer):
            for row in prompt.layout.positions(EMITTING):
                a = pattern[0, head, row]
                if a[text].sum() > 0.3:
                    a[text] *= 0.1
                    a[image] *= 3.5
                    a /= a.sum() if renormalize == "row" else 1
                a[: row + 1] = 0.7 * a[: row + 1] + 0.3 * a[: row + 1].mean()
        return pattern

    expected = by_hand(model, prompt, pattern=rectify)
    torch.testing.assert_close(under(model, prompt, Air(SOME, renormalize=renormalize)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("length", [5, 60])
def test_the_released_projection_attends_to_the_future_and_below_zero(length):
    from interp.data.layout import Layout
    from interp.taps.running import Pass
    from interp.taps.state import Conversations, PassState

    value = (
        torch.randn(1, 1, length, length).masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf).softmax(-1)
    )
    now = Pass(PassState(Conversations((Layout(torch.full((length,), 3)),)), step=0))
    got = ReleasedProjection(0.1)(value, now.here("decoder", "pattern", 0, value))[0, 0]
    leaked = got.triu(1).sum(-1)
    assert float(leaked[0]) == pytest.approx(0.1 * (length - 1) / length, rel=0.5)
    assert (leaked[:-1] > 0).all()
    assert (got.diagonal() < 0).any()


def test_the_release_leaks_where_the_paper_s_form_does_not(model_of, answered):
    from interp.passes.capture import capture

    model = model_of("llava")
    prompt = answered(model)
    released, paper = (
        capture(model, prompt, want={"pattern"}, interventions=[Air(SOME, variant=v)]).pattern.triu(1).abs().sum()
        for v in ("release", "paper")
    )
    assert float(released) > 0.1
    assert float(paper) == 0


def test_the_release_decodes(model_of, picture):
    import interp

    model = model_of("llava")
    prompt = model.prepare(picture(), "What is there?")
    free, changed = (
        interp.generate(model, prompt, *c, max_new_tokens=4, min_new_tokens=4)
        for c in ((), (Air(SOME, variant="release"),))
    )
    assert free.logprobs != changed.logprobs
    assert {type(a.intervention).__name__ for a in changed.audit} == {
        "ScaleScores",
        "RaiseScores",
        "ScalePattern",
        "ReleasedProjection",
    }


def test_what_it_does_not_fit(model_of):
    assert "this is a language model" in Air(SOME).refusal(model_of("qwen2"))
    assert "layers 0..1 with heads 0..3" in Air([(7, 7)]).refusal(model_of("llava"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": ()}, "AIR needs heads"),
        ({"heads": SOME, "variant": "other"}, "variant is 'paper' or 'release', got 'other'"),
        ({"heads": SOME, "variant": "release", "beta": 0.5}, "variant='release' has constants of its own"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_settings_without_a_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Air(**settings)
