"""The head that decoding loops share, on a loop that decodes greedily without anything of its own."""

from dataclasses import dataclass
from typing import final

import pytest
import torch
from transformers import SuppressTokensLogitsProcessor

import interp
from interp.decoding.generate import end_tokens
from interp.decoding.loop import Decoding, DecodingLoop, Search
from interp.interventions.attention import ScaleScores
from interp.methods.vaf import Vaf


@final
class _Greedy(Search):
    def __init__(self, decoding):
        self.decoding, self.text = decoding, decoding.continuation()

    def tokens(self):
        with torch.no_grad():
            logits, reply = self.text.read(), self.decoding.prompt_ids[:, :0]
            for _ in range(self.decoding.max_new_tokens):
                token = self.decoding.process(reply, logits).argmax(-1)
                yield int(token), float(logits.log_softmax(-1)[0, token])
                reply = torch.cat([reply, token[None]], 1)
                if int(token) in self.decoding.ends:
                    return
                logits = self.text.step(token)


@final
@dataclass(frozen=True)
class Greedy(DecodingLoop):
    """Greedy decoding, in a loop of its own."""

    procedure = "greedy decoding"

    def search(self, decoding):
        """Return the loop."""
        return _Greedy(decoding)


EDIT = ScaleScores(0, 3.0, mode="abs")


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "internvl", "instructblip", "qwen2"])
@pytest.mark.parametrize("options", [{"min_new_tokens": 6}, {"min_new_tokens": 3}, {}])
def test_a_loop_decodes_as_generate_does(model_of, picture, kind, options):
    model = model_of(kind)
    prompt = model.prepare(picture() if model.family.image_token else None, "What is there?")
    never = SuppressTokensLogitsProcessor([7, *range(20, 60)])
    texts = []
    own = interp.generate(model, prompt, Greedy(), EDIT, never, max_new_tokens=6, on_token=texts.append, **options)
    usual = interp.generate(model, prompt, EDIT, never, max_new_tokens=6, **options)
    assert (own.ids, own.stop, own.text) == (usual.ids, usual.stop, usual.text)
    torch.testing.assert_close(torch.tensor(own.logprobs), torch.tensor(usual.logprobs), rtol=1e-4, atol=2e-4)
    assert texts == list(own.tokens)
    assert own.audit[0].largest > 0


def test_several_prompts_are_decoded_one_by_one(model_of, picture):
    model = model_of("llava")
    prompts = [model.prepare(picture(), q) for q in ("What is there?", "Why?")]
    replies = interp.generate(model, prompts, Greedy(), max_new_tokens=4)
    assert [r.ids for r in replies] == [interp.generate(model, p, max_new_tokens=4).ids for p in prompts]


def test_an_end_is_forbidden_up_to_the_smallest_length_only(model_of, picture):
    model = model_of("llava")
    prompt, ends = model.prepare(picture(), "What is there?"), list(end_tokens(model))
    decoding, logits = Decoding(model, prompt, min_new_tokens=2), torch.zeros(3, 300)
    for length, forbidden in ((0, True), (1, True), (2, False)):
        ruled = decoding.process(torch.zeros(3, length, dtype=torch.long), logits)
        assert bool(ruled[:, ends].isinf().all()) is forbidden
    assert bool((logits == 0).all())  # what was passed in is not modified


def test_options_that_loops_do_not_support_are_refused_by_name(model_of, picture):
    model = model_of("llava")
    with pytest.raises(
        ValueError, match="it decodes by greedy decoding, without top_k; its options are max_new_tokens, min"
    ):
        interp.generate(model, model.prepare(picture(), "What is there?"), Greedy(), top_k=3)


def test_a_loop_is_a_method_without_interventions(model_of, picture):
    model = model_of("llava")
    both = Vaf() + Greedy()
    assert Greedy().decodes
    assert both.decodes
    assert not Vaf().decodes
    assert Greedy().interventions(model) == ()
    with pytest.raises(TypeError, match="has no decoding loop of its own"):
        Vaf().decode(model, model.prepare(picture(), "What is there?"), (), ())
