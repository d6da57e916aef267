import pytest
import torch

import interp
from interp.analysis.product import saliency
from interp.analysis.saliency import ResponseSaliency
from interp.analysis.sinks import Sinks
from interp.interventions.method import build_method, resolve
from interp.report import reading
from interp.report.looking import PARTS
from interp.report.reading import AS_IT_IS, Variant, forced, read


@pytest.fixture
def asked(scene):
    model = interp.load("scenes")
    return model, model.prepare(scene.image, "Describe the image in detail.")


def test_a_reading_is_one_pass_of_the_library(asked) -> None:
    model, prompt = asked
    one = read(model, prompt, AS_IT_IS)
    seen = interp.capture(model, one.prompt, want={"pattern"}, grad={"pattern"}, gradient="position")
    torch.testing.assert_close(one.attention, seen.pattern)
    each = torch.stack(
        [saliency(a, g, seen.queries, "each") for a, g in zip(seen.pattern, seen.pattern_grad, strict=True)]
    )
    torch.testing.assert_close(one.saliency, each)
    torch.testing.assert_close(one.score, interp.measure(model, one.prompt, ResponseSaliency()).score())
    assert one.sinks.positions == interp.measure(model, one.prompt, Sinks()).positions
    reply = interp.generate(model, prompt)
    assert (one.reply.text, one.reply.tokens, one.reply.logprobs) == (reply.text, reply.tokens, reply.logprobs)


def test_shares_take_the_sinks_out_of_their_segment(asked) -> None:
    one = read(*asked, AS_IT_IS)
    torch.testing.assert_close(one.shares.sum(-1), torch.ones(one.shares.shape[:-1]))
    sink = one.attention[..., list(one.sinks.positions)].sum(-1)
    assert float(sink.max()) > 0.3
    torch.testing.assert_close(one.shares[..., PARTS.index("SINK")], sink)
    system = one.attention[..., : min(one.prompt.layout.places())].sum(-1)
    torch.testing.assert_close(one.shares[..., PARTS.index("SYSTEM")], system - sink, atol=1e-6, rtol=0)


def test_a_change_changes_the_reply_and_the_pass(asked) -> None:
    model, prompt = asked
    vaf = Variant("vaf", (build_method("vaf", enhance=3.0),))
    plain, changed = read(model, prompt, AS_IT_IS), read(model, prompt, vaf)
    assert changed.reply.text == interp.generate(model, prompt, *vaf.interventions).text
    image = PARTS.index("IMAGE")
    assert float(changed.shares[..., image].mean()) > float(plain.shares[..., image].mean())


def test_a_given_reply_is_read_with_its_probabilities(asked) -> None:
    model, prompt = asked
    own = read(model, prompt, AS_IT_IS)
    given = read(model, prompt, AS_IT_IS, response=own.reply.text)
    assert given.reply.text == own.reply.text
    assert given.reply.logprobs == pytest.approx(own.reply.logprobs[: len(given.reply.logprobs)], abs=2e-3)
    assert len(given.reply.logprobs) >= len(own.reply.logprobs) - 1


def test_the_same_reply_under_a_change_is_teacher_forced(asked) -> None:
    model, prompt = asked
    plain = read(model, prompt, AS_IT_IS)
    ids = plain.prompt.response_ids
    same = forced(model, resolve(model, [prompt], ()), ids, plain.sinks.positions)
    assert same.logprobs == pytest.approx(plain.reply.logprobs, abs=2e-3)
    torch.testing.assert_close(same.shares, plain.shares.mean((0, 1)))
    torch.testing.assert_close(same.maps.sum(-1), same.shares[:, PARTS.index("IMAGE")])
    spear = forced(model, resolve(model, [prompt], [build_method("spear")]), ids, plain.sinks.positions)
    assert len(spear.logprobs) == len(ids)
    assert spear.logprobs != pytest.approx(same.logprobs, abs=1e-4)


def test_what_only_chooses_tokens_is_said_to_be_left_out(asked) -> None:
    model, prompt = asked
    one = read(model, prompt, Variant("contrast", (build_method("contrast"),)), longest=12)
    assert "also acts where a token is chosen" in one.notes[0]


def test_a_large_model_is_kept_as_the_mean_over_heads(asked, monkeypatch) -> None:
    model, prompt = asked
    every = read(model, prompt, AS_IT_IS, longest=5)
    monkeypatch.setattr(reading, "MOST", 10)
    mean = read(model, prompt, AS_IT_IS, longest=5)
    torch.testing.assert_close(mean.attention, every.attention.mean(1, keepdim=True))
    torch.testing.assert_close(mean.saliency, every.saliency.mean(1, keepdim=True))
    torch.testing.assert_close(mean.score, every.score)
    assert "mean over heads" in mean.notes[0]


def test_text_alone_has_no_anchors(asked) -> None:
    model = asked[0]
    one = read(model, model.prepare(None, "Hello"), AS_IT_IS, longest=4)
    assert one.drift is None


def test_a_model_whose_prompt_sees_ahead_has_no_saliency(model_of, picture) -> None:
    model = model_of("paligemma")
    one = read(model, model.prepare(picture(), "What is it?"), AS_IT_IS, longest=3)
    assert one.saliency is None
    assert one.score is None
    assert "see ahead" in one.notes[0]
