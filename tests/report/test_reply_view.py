"""A reply and what one pass over it gives, against the library's own calls."""

import pytest
import torch

import interp
from interp.analysis.product import saliency
from interp.analysis.saliency import ResponseSaliency
from interp.analysis.sinks import Sinks
from interp.interventions.method import build_method, resolve
from interp.report import reply_view
from interp.report.reply_view import (
    BASELINE,
    SHARES,
    ReplyView,
    Variant,
    encode_reply,
    force_reply,
    generate_reply,
    view_reply,
)


@pytest.fixture
def asked(scene):
    model = interp.load("scenes")
    return model, model.prepare(scene.image, "Describe the image in detail.")


def view(model, prompt, variant=BASELINE, longest=128) -> ReplyView:
    resolved = resolve(model, [prompt], variant.interventions)
    return view_reply(model, variant, resolved, generate_reply(model, resolved, longest))


def test_a_view_is_one_pass_of_the_library(asked) -> None:
    model, prompt = asked
    one = view(model, prompt)
    seen = interp.capture(model, one.prompt, want={"pattern"}, grad={"pattern"}, gradient="position")
    torch.testing.assert_close(one.attention, seen.pattern)
    every = torch.stack(
        [saliency(a, g, seen.queries, "each") for a, g in zip(seen.pattern, seen.pattern_grad, strict=True)]
    )
    torch.testing.assert_close(one.saliency, every)
    torch.testing.assert_close(one.previous, interp.measure(model, one.prompt, ResponseSaliency()).score())
    assert one.sinks.positions == interp.measure(model, one.prompt, Sinks()).positions
    reply = interp.generate(model, prompt)
    assert (one.reply.text, one.reply.tokens, one.reply.logprobs) == (reply.text, reply.tokens, reply.logprobs)


def test_shares_count_the_sinks_apart_from_their_segment(asked) -> None:
    one = view(*asked)
    torch.testing.assert_close(one.shares.sum(-1), torch.ones(one.shares.shape[:-1]))
    sink = one.attention[..., list(one.sinks.positions)].sum(-1)
    assert float(sink.max()) > 0.3
    torch.testing.assert_close(one.shares[..., SHARES.index("SINK")], sink)
    system = one.attention[..., : min(one.prompt.layout.places())].sum(-1)
    torch.testing.assert_close(one.shares[..., SHARES.index("SYSTEM")], system - sink, atol=1e-6, rtol=0)


def test_an_intervention_changes_the_reply_and_the_pass(asked) -> None:
    model, prompt = asked
    vaf = Variant("vaf", (build_method("vaf", enhance=3.0),))
    plain, changed = view(model, prompt), view(model, prompt, vaf)
    assert changed.reply.text == interp.generate(model, prompt, *vaf.interventions).text
    image = SHARES.index("IMAGE")
    assert float(changed.shares[..., image].mean()) > float(plain.shares[..., image].mean())


@pytest.mark.parametrize("name", ["spear", "contrast", "opera"])
def test_a_resolved_method_generates_what_the_method_does(asked, name) -> None:
    model, prompt = asked  # interventions alone, a rule on the next token, a decoding loop
    method = build_method(name)
    resolved = resolve(model, [prompt], [method])
    alone = interp.generate(model, prompt, method, max_new_tokens=12)
    reply = generate_reply(model, resolved, 12)
    assert (reply.ids, reply.stop) == (alone.ids, alone.stop)
    assert reply.logprobs == pytest.approx(alone.logprobs)


def test_a_given_reply_has_the_probabilities_of_the_variant(asked) -> None:
    model, prompt = asked
    own = view(model, prompt)
    given = encode_reply(model, resolve(model, [prompt], ()), own.reply.text)
    assert given.text == own.reply.text
    assert given.logprobs == pytest.approx(own.reply.logprobs[: len(given.logprobs)], abs=2e-3)
    assert len(given.logprobs) >= len(own.reply.logprobs) - 1


def test_the_same_reply_is_forced_through_a_variant(asked) -> None:
    model, prompt = asked
    plain = view(model, prompt)
    ids = plain.prompt.response_ids
    same = force_reply(model, resolve(model, [prompt], ()), ids, plain.sinks.positions)
    assert same.logprobs == pytest.approx(plain.reply.logprobs, abs=2e-3)
    torch.testing.assert_close(same.shares, plain.shares.mean((0, 1)))
    torch.testing.assert_close(same.maps.sum(-1), same.shares[:, SHARES.index("IMAGE")])
    spear = force_reply(model, resolve(model, [prompt], [build_method("spear")]), ids, plain.sinks.positions)
    assert len(spear.logprobs) == len(ids)
    assert spear.logprobs != pytest.approx(same.logprobs, abs=1e-4)


def test_a_note_names_what_the_pass_leaves_out(asked) -> None:
    one = view(*asked, Variant("contrast", (build_method("contrast"),)), longest=12)
    assert "contrast also changes which token is chosen" in one.notes[0]


def test_a_large_model_is_kept_as_the_mean_over_heads(asked, monkeypatch) -> None:
    every = view(*asked, longest=5)
    monkeypatch.setattr(reply_view, "_MOST_ENTRIES", 10)
    mean = view(*asked, longest=5)
    torch.testing.assert_close(mean.attention, every.attention.mean(1, keepdim=True))
    torch.testing.assert_close(mean.saliency, every.saliency.mean(1, keepdim=True))
    torch.testing.assert_close(mean.previous, every.previous)
    assert "mean over heads" in mean.notes[0]


def test_a_prompt_without_an_image_has_no_visual_anchors(asked) -> None:
    model = asked[0]
    assert view(model, model.prepare(None, "Hello"), longest=4).drift is None


def test_a_model_with_a_bidirectional_prompt_has_no_saliency(model_of, picture) -> None:
    model = model_of("paligemma")
    one = view(model, model.prepare(picture(), "What is it?"), longest=3)
    assert one.saliency is None
    assert one.previous is None
    assert "attend to later tokens" in one.notes[0]


def test_settings_name_what_differs_from_the_defaults() -> None:
    variant = Variant("both", (build_method("spear"), build_method("vaf", enhance=2.0)))
    assert variant.settings == ("Spear()", "Vaf(enhance=2.0)")
    assert BASELINE.settings == ()
