import pytest
import torch

import interp
from interp.data.tokens import Segment
from interp.families.base import family
from interp.methods.var import Var

STRONG = Var(0.2, most=0.9, least=0.05, tau=2.2, layers=(0, 1))
NEUTRAL = Var(1.0, most=0.9, least=0.05, tau=2.2, layers=(0, 1))


def test_it_conforms(seeing, conforms):
    conforms(seeing, STRONG, NEUTRAL)


def test_bfloat16_does_not_turn_it_off(model_of, answered, under):
    model = model_of("llava", torch.bfloat16)
    prompt = answered(model)
    assert not torch.equal(under(model, prompt, STRONG), under(model, prompt))


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "internvl", "instructblip"])
def test_it_is_the_release_s_three_steps_row_by_row(model_of, answered, under, by_hand, kind):
    model = model_of(kind)
    prompt = answered(model)
    n = len(prompt) - len(prompt.response_ids)
    image, plain, streams, done = prompt.layout.positions(Segment.IMAGE), family(kind).tiny()[0], [], []
    for layer in plain.get_submodule(model.family.decoder).layers:
        layer.register_forward_pre_hook(
            lambda _, args, kwargs: streams.append((args[0] if args else kwargs["hidden_states"])[0]), with_kwargs=True
        )

    def move(layer, pattern):
        h = streams[layer][:n]
        large = h.abs() / h.pow(2).mean(-1, keepdim=True).sqrt() > 2.2
        dims = [d for d in range(h.shape[1]) if any(large[t, d] for t in range(n) if t not in image)]
        sinks = [t for t in range(n) if large[t, dims].any()]
        others = [t for t in image if t not in sinks]
        pattern = pattern.clone()
        for head in range(pattern.shape[1]):
            for row in prompt.layout.positions(Segment.USER | Segment.RESPONSE):
                a = pattern[0, head, row]
                visual, resting = a[list(image)].sum(), a[[t for t in sinks if t in image]].sum()
                if visual >= 0.05 and resting <= 0.9 * visual and others:
                    freed = 0.8 * a[sinks].sum()
                    a[others] += freed * a[others] / a[others].sum()
                    a[sinks] *= 0.2
                    done.append((len(sinks), float(freed)))
        return pattern

    expected = by_hand(model, prompt, pattern=move, plain=plain)
    torch.testing.assert_close(under(model, prompt, STRONG), expected, rtol=1e-5, atol=1e-5)
    assert any(0 < count < n and freed > 0 for count, freed in done)


def test_rows_keep_their_sums_and_sinks_stay_those_of_the_prompt(model_of, picture):
    model = model_of("llava")
    reply = interp.generate(model, model.prepare(picture(), "What?"), STRONG, max_new_tokens=4, min_new_tokens=4)
    assert reply.audit[0].row_sum < 1e-5
    assert reply.audit[0].calls == 4 * 2 * 2  # the stream and the pattern of two layers, four times


def test_dimensions_can_be_named(model_of, answered, under):
    model = model_of("llava")
    prompt = answered(model)
    stream = interp.capture(model, prompt, want={"resid_pre"}).resid_pre[1][prompt.layout.mask(Segment.IMAGE)]
    dim = int((stream.abs() / stream.square().mean(-1, keepdim=True).sqrt()).max(0).values.argmax())
    settings = {"most": 0.9, "least": 0.05, "tau": 2.2, "layers": (1,)}
    named, found = (under(model, prompt, Var(0.2, dims=d, **settings)) for d in ((dim,), None))
    assert not torch.allclose(named, found)
    assert not torch.allclose(named, under(model, prompt))


def test_the_bound_follows_the_width_below_4096():
    class Wide:
        layers, dim = 32, 4096

    assert Var().interventions(Wide)[0].tau == 20
    assert Var().interventions(Wide)[0].layers == tuple(range(2, 32))
    Wide.dim = 5120
    assert Var().interventions(Wide)[0].tau == 20
    Wide.dim = 1024
    assert Var().interventions(Wide)[0].tau == 10


def test_a_prompt_without_an_image_is_refused(model_of):
    model = model_of("llava")
    with pytest.raises(ValueError, match=r"acts on an image, but prompts \[0\] have none"):
        interp.generate(model, model.prepare(text="What is there?"), Var(layers=(0,)))


def test_what_it_does_not_fit(model_of):
    assert "this is a language model" in Var().refusal(model_of("qwen2"))
    assert "from the third layer on, and the model has 2" in Var().refusal(model_of("llava"))
    assert "dimensions [99] do not exist: its stream has 0..31" in Var(dims=(1, 99), layers=(0,)).refusal(
        model_of("llava")
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": 1.5}, r"shares in \[0, 1\], got 1.5, 0.5 and 0.2"),
        ({"tau": 0.0}, "tau is above 0"),
        ({"dims": ()}, "leaves no sink dimension"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Var(**settings)
