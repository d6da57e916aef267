"""What can never act is refused before anything runs; what may rightly be empty only warns."""

import re

import pytest
import torch

import interp
from interp.data.heads import Heads
from interp.data.layout import Grid, Layout
from interp.data.tokens import EMITTING, EVERY, LAST, SINKS, Segment, tokens
from interp.interventions import files
from interp.interventions.attention import MaskAttention, ScalePattern, ScaleScores
from interp.interventions.function import Apply
from interp.interventions.heads import AblateHeads, ScaleHeads
from interp.interventions.scope import Scope
from interp.interventions.stream import SetDims
from interp.methods.adhh import Adhh
from interp.methods.clva import Clva
from interp.methods.spear import Spear
from interp.methods.vaf import Vaf
from interp.taps.audit import NothingChanged

_, SYSTEM, IMAGE, USER, RESPONSE = Segment
SEEING = Layout(torch.tensor([1, 2, 2, 3]), (Grid(0, 1, 2, None),))
READING = Layout(torch.tensor([3, 3]))


def reach(layout=SEEING, new=3):
    return Scope(
        "m", {"decoder": 4, "vision": 2}, 8, 2, ("v", "attn_scores", "pattern", "z", "resid_post"), (layout,), new
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (MaskAttention([7]), r"positions \[7\] are outside this conversation of 7 tokens"),
        (MaskAttention(USER, queries=[99]), r"positions \[99\] are outside this conversation of 7 tokens"),
        (MaskAttention(SINKS), r"no tokens are marked 'sink' in this conversation \(it has none\); mark them"),
        (
            MaskAttention([]),
            r"tokens\(\[\]\) takes no token of this conversation \(1 SYSTEM, 2 IMAGE, 1 USER, at most 3 to",
        ),
        (MaskAttention(IMAGE & RESPONSE), r"IMAGE & RESPONSE takes no token .* so it can never act; choose tokens"),
        (MaskAttention(SYSTEM - SYSTEM), "SYSTEM - SYSTEM takes no token"),
        (MaskAttention(USER, queries=IMAGE & USER), "IMAGE & USER takes no token"),
        (MaskAttention(USER, layers=()), r"names no layer \(layers=\(\)\), so it can never act; omit layers"),
        (MaskAttention(USER, layers=(1, 4)), r"names layers \[4\], but the decoder of m has layers 0\.\.3"),
        (ScaleScores(USER, 2.0, heads=Heads(())), r"names no head, so it can never act; omit heads"),
        (AblateHeads(Heads(())), r"names no head, so it can never act"),
        (ScaleHeads(Heads(((1, 8),)), 2.0), r"names heads \[\(1, 8\)\], but m has layers 0\.\.3 with heads 0\.\.7"),
        (Apply("z", lambda v, _: v, part="qformer"), r"acts in the qformer, but m has only decoder, vision"),
        (
            Apply("z", lambda v, _: v, layers=(2,), part="vision"),
            r"layers \[2\], but the vision of m has layers 0\.\.1",
        ),
        (Apply("resid_post", lambda v, _: v, part="vision"), r"acts at resid_post, but the vision of m has only q, k"),
        (
            Apply("resid_mid", lambda v, _: v),
            r"acts at resid_mid, but the decoder of m has only v, attn_scores, pattern",
        ),
    ],
    ids=lambda x: None if isinstance(x, str) else type(x).__name__,
)
def test_what_can_never_act_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        reach().check(change)


def test_an_image_is_never_rightly_missing():
    with pytest.raises(ValueError, match=r"IMAGE takes no token of this conversation \(2 USER, at most 3 to come\)"):
        reach(READING).check(ScaleScores(IMAGE, 2.0))
    reach(READING).check(ScaleScores(IMAGE | USER, 2.0))


@pytest.mark.parametrize(
    "which",
    [
        SYSTEM,
        RESPONSE,
        SYSTEM | RESPONSE,
        SYSTEM - tokens(0),
        EMITTING,
        LAST,
        EVERY,
        EMITTING - LAST,
        tokens(4),
        tokens(-2),
    ],
    ids=str,
)
@pytest.mark.parametrize("new", [0, 3])
def test_what_a_conversation_may_rightly_lack_is_not(which, new):
    if which != tokens(4) or new:
        reach(READING, new).check(MaskAttention(which))


@pytest.fixture
def model(model_of):
    return model_of("llava")


def test_a_position_of_the_reply_is_reached_when_the_reply_gets_there(model, picture):
    prompt = model.prepare(picture(), "What is it?")
    there = len(prompt) + 1
    options = {"max_new_tokens": 4, "min_new_tokens": 4}
    reply = interp.generate(model, prompt, MaskAttention([there]), **options)
    assert reply.audit[0].largest > 0
    with pytest.raises(ValueError, match=f"positions \\[{there + 3}\\] are outside"):
        interp.generate(model, prompt, MaskAttention([there + 3]), **options)
    with pytest.raises(ValueError, match=f"positions \\[{there}\\] are outside"):
        interp.capture(model, prompt, interventions=[MaskAttention([there])])


def test_a_family_without_a_segment_warns(model_of, picture):
    model = model_of("instructblip")
    prompt = model.prepare(picture(), "What is it?")
    with pytest.warns(NothingChanged, match="changed nothing"):
        interp.generate(model, prompt, MaskAttention(SYSTEM), max_new_tokens=2)


def test_a_family_without_the_part(model):
    with pytest.raises(ValueError, match=r"acts in the qformer, but .* has only (vision, decoder|decoder, vision)"):
        model.check([], [Apply("pattern", lambda v, _: v, part="qformer")])


@pytest.mark.parametrize("method", [Vaf(), Spear(), Adhh([(0, 1)]), Clva()], ids=lambda m: type(m).__name__)
def test_an_image_method_on_a_text_prompt(model, method):
    with pytest.raises(
        ValueError, match=r"acts on an image, but prompts \[0\] have none: give one, prepare\(image, text\)"
    ):
        interp.generate(model, model.prepare(text="Hello?"), method)


def test_sinks_beyond_the_prompt(model, picture):
    prompt = model.prepare(picture(), "What is it?")
    with pytest.raises(
        ValueError, match=re.escape(f"marks {{'sink': (999,)}} lie outside this conversation of {len(prompt)}")
    ):
        prompt.marked(sink=[999])


def test_contradictory_settings():
    with pytest.raises(ValueError, match="mode='value' takes one value per dimension and the other modes none"):
        SetDims(USER, (1, 2), "zero", (1.0, 2.0))
    with pytest.raises(ValueError, match=r"at is all, response, last or step, got 'zero' and 'steps'"):
        AblateHeads(Heads(((0, 1),)), at="steps")


def test_an_unknown_key_in_a_file(tmp_path):
    path = tmp_path / "changes.yaml"
    path.write_text("- kind: ScalePattern\n  keys: IMAGE\n  by: 2.0\n  renormalise: row\n")
    with pytest.raises(ValueError, match=r"ScalePattern has no setting renormalise \(did you mean renormalize\?\)"):
        files.read_interventions(path)
    path.write_text("- kind: ScalePattern\n  keys: IMAGE\n  by: 2.0\n")
    assert files.read_interventions(path) == (ScalePattern(IMAGE, 2.0),)
