import pytest
import torch
from torch.testing import assert_close

import interp
from interp.data.tokens import Segment
from interp.interventions.values import ZeroValues
from interp.methods.imccd import Imccd
from interp.methods.sgrs import Sgrs

STRONG = Imccd(alpha=8.0, beta=0.0, window=0)
NEUTRAL = Imccd(alpha=0.0, beta=0.0)


def test_it_conforms(seeing, conforms):
    conforms(seeing, STRONG, NEUTRAL, first=False)


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl"])
def test_the_gated_form_conforms(model_of, conforms, kind):
    conforms(model_of(kind), Imccd(alpha=8.0, beta=0.0, variant="release"), NEUTRAL, first=False)


@pytest.fixture
def by_values():
    """Return the function from a prompt to a function of a reply: logits with every value product written out, entry by entry."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    from interp.families.base import family

    def stream(model, prompt, scalar, watch=None):
        module = family(model.config.model_type).tiny()[0].requires_grad_(False)
        paths = {id(m): n for n, m in module.named_modules()}

        def attend(attention, q, k, v, attention_mask=None, scaling=None, dropout=0.0, **_):
            k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
            z = q @ k.transpose(2, 3) * (q.shape[-1] ** -0.5 if scaling is None else scaling)
            a = (z if attention_mask is None else z + attention_mask[..., : k.shape[2]]).softmax(-1)
            out = a @ v
            if f"{model.family.decoder}.layers." in paths[id(attention)] + ".":
                image = list(prompt.layout.positions(Segment.IMAGE))
                if watch is not None:
                    watch.append(float(a[0, :, -1, image].sum(-1).mean()))
                    return out.transpose(1, 2).contiguous(), a
                mean = v[0, :, image].mean(1)
                mean = mean.mean(-1, keepdim=True).expand_as(mean) if scalar else mean
                for row in range(image[-1] + 1, z.shape[2]):
                    high = z[0, :, row, image] > z[0, :, row, image].mean()
                    for head, place in high.nonzero().tolist():
                        weight = a[0, head, row, image[place]]
                        out[0, head, row] += weight * (mean[head] - v[0, head, image[place]])
            return out.transpose(1, 2).contiguous(), a

        AttentionInterface.register("by_values", attend)
        AttentionMaskInterface.register("by_values", eager_mask)

        def last(ids):
            whole = prompt.with_response(ids) if ids else prompt
            AttentionInterface.register("by_values", attend)
            module.set_attn_implementation("by_values")
            with torch.no_grad():
                return module(**model.inputs([whole]), use_cache=False).logits[0, -1]

        return last

    return stream


@pytest.mark.parametrize("variant", ["paper", "release"])
def test_it_is_two_whole_passes_a_token(seeing, picture, uncached, by_values, two_passes, set_apart, variant):
    prompt = seeing.prepare(picture(), "What is there?")
    streams = uncached(seeing, seeing.inputs([prompt])), by_values(seeing, prompt, variant == "release")
    method = Imccd(2.0, 0.05, window=0, variant=variant)
    two_passes(seeing, prompt, method, streams, set_apart(2.0, 0.05), new=4)


def test_tokens_that_look_away_are_not_contrasted(model_of, picture, by_values, two_passes, set_apart):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is there?")
    watch, history, off = [], [], []
    plain = by_values(model, prompt, False, watch)
    other = by_values(model, prompt, False)

    def one(ids):
        watch.clear()
        logits = plain(ids)
        history.append(sum(watch) / len(watch))
        return logits

    def combine(here, there, step):
        average = sum(history[:3]) / len(history[:3])
        off.append(history[-1] < average)
        return set_apart(0.0 if off[-1] else 4.0, 0.05)(here, there, step)

    two_passes(model, prompt, Imccd(4.0, 0.05, window=3), (one, other), combine, new=8)
    assert True in off
    assert False in off


def test_watching_is_no_edit(model_of, picture):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is there?")
    reply = interp.generate(model, prompt, Imccd(), max_new_tokens=3, min_new_tokens=3)
    assert [(type(f.intervention).__name__, f.largest, f.calls) for f in reply.audit] == [
        ("WatchImage", 0.0, 3 * model.layers)
    ]


def test_the_first_stream_s_edits_are_not_the_second_s(model_of, picture, by_values, two_passes, set_apart):
    from interp.taps.running import run_pass

    model = model_of("llava")
    prompt = model.prepare(picture(), "What is there?")
    edit = ZeroValues(Segment.SYSTEM)

    def edited(ids):
        whole = prompt.with_response(ids) if ids else prompt
        with torch.no_grad(), run_pass(model.running([whole], [edit])):
            return model.module(**model.inputs([whole]), use_cache=False).logits[0, -1]

    method = Imccd(2.0, 0.05, window=0)
    two_passes(model, prompt, method, (edited, by_values(model, prompt, False)), set_apart(2.0, 0.05), 4, (edit,))


@pytest.mark.usefixtures("unchecked")
def test_what_it_does_not_take(model_of, picture):
    for settings, message in (
        ({"window": -1}, "window is a number of tokens, 0 to contrast all of them, got -1"),
        ({"mode": "imccd"}, "queries and keys are available after rotation only"),
        ({"mode": "mine"}, "mode is 'ved' and variant 'paper' or 'release', got 'mine' and 'paper'"),
        ({"variant": "mine"}, "mode is 'ved' and variant 'paper' or 'release', got 'ved' and 'mine'"),
    ):
        with pytest.raises(ValueError, match=message):
            Imccd(**settings)
    model = model_of("llava")
    with pytest.raises(ValueError, match="give window=0 beside a method with a decoding loop of its own"):
        interp.generate(model, model.prepare(picture(), "What?"), Imccd() + Sgrs(), max_new_tokens=2)


def test_a_row_of_even_scores_carries_what_it_did():
    """No score is above the mean where all are equal."""
    from interp.data.layout import Grid, Layout
    from interp.methods.imccd import average_values
    from interp.taps.running import Pass
    from interp.taps.site_table import site_table
    from interp.taps.spec import PassSpec
    from interp.taps.state import Conversations, PassState

    layout = Layout(torch.tensor([1, 2, 2, 3]), (Grid(0, 1, 2, None),))
    spec = PassSpec(average_values())
    now = Pass(PassState(Conversations((layout,))), spec, site_table(spec, {"decoder": 1}))
    now.advance(1, 0, 4, torch.device("cpu"))
    torch.manual_seed(0)
    v, z = torch.randn(1, 4, 2, 3), torch.randn(1, 4, 2, 3)
    scores, pattern = torch.ones(1, 2, 4, 4), torch.full((1, 2, 4, 4), 0.25)
    for site, value in (("v", v), ("attn_scores", scores), ("pattern", pattern), ("z", z)):
        assert_close(now.visit("decoder", site, 0, value), value)
