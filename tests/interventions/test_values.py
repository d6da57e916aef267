import pytest
import torch

from interp.data.heads import Heads
from interp.data.layout import Layout
from interp.data.tokens import EMITTING, SINKS, Segment
from interp.interventions.base import from_dict
from interp.interventions.values import MeanValues, SetValues, ZeroValues
from interp.passes.capture import capture
from interp.taps.running import Pass
from interp.taps.state import Conversations, PassState

LAYOUT = Layout(torch.tensor([1, 3, 3, 4]))
HERE = Pass(PassState(Conversations((LAYOUT,)))).here("decoder", "v", 0, torch.zeros(1, 4, 2, 3))
EXAMPLES = {
    "zero values": lambda model: (ZeroValues(SINKS), ZeroValues(Segment.PAD)),
    "mean values": lambda model: (MeanValues(SINKS), MeanValues(Segment.PAD)),
    "set values": lambda model: (SetValues(0, torch.ones(model.layers, model.kv_heads, model.head_dim)), None),
}
"""A strong and a neutral setting of every kind, for `test_every_kind`; a neutral one often takes tokens that no prompt has."""


def test_the_chosen_tokens_carry_nothing():
    value = torch.randn(1, 4, 2, 3)
    before = value.clone()
    got = ZeroValues(Segment.USER)(value, HERE)
    assert (got[:, 1:3] == 0).all()
    torch.testing.assert_close(got[:, [0, 3]], before[:, [0, 3]], rtol=0, atol=0)
    torch.testing.assert_close(value, before, rtol=0, atol=0)


def test_taking_no_token_changes_nothing():
    value = torch.randn(1, 4, 2, 3)
    torch.testing.assert_close(ZeroValues(Segment.IMAGE)(value, HERE), value, rtol=0, atol=0)


def test_it_can_be_written_down():
    change = ZeroValues(EMITTING, layers=range(3))
    assert from_dict(change.to_dict()) == change
    with pytest.raises(ValueError, match="layers are counted from 0"):
        ZeroValues(EMITTING, layers=[-2])


def test_the_pattern_of_the_layer_stays_and_z_is_that_of_the_other_tokens(model_of, picture):
    model = model_of("qwen2_vl")
    prompt = model.prepare(picture(), "What is this?")
    sites = {"pattern", "v", "z"}
    clean = capture(model, prompt, want=sites)
    edited = capture(model, prompt, want=sites, interventions=[ZeroValues(Segment.IMAGE, layers=(1,))])
    torch.testing.assert_close(edited.pattern, clean.pattern, rtol=0, atol=1e-6)
    image = prompt.layout.mask(Segment.IMAGE)
    assert (edited.v[1][image] == 0).all()
    torch.testing.assert_close(edited.v[1][~image], clean.v[1][~image])
    values = clean.v[1].repeat_interleave(model.heads // model.kv_heads, 1)
    expected = torch.einsum("hqk,khd->qhd", clean.pattern[1][:, :, ~image], values[~image])
    torch.testing.assert_close(edited.z[1], expected, rtol=1e-4, atol=1e-5)


def test_only_the_chosen_kv_heads_change(model_of, picture):
    value = torch.randn(1, 4, 2, 3)
    for change, new in (
        (ZeroValues(Segment.USER, heads=Heads(((0, 1),))), torch.zeros(3)),
        (SetValues(Segment.USER, torch.ones(1, 2, 3), heads=Heads(((0, 1),))), torch.ones(3)),
        (MeanValues(Segment.USER, heads=Heads(((0, 1),))), value[0, 0, 1]),  # the other token, 4, is the reply's
    ):
        got = change(value, HERE)
        torch.testing.assert_close(got[:, :, 0], value[:, :, 0], rtol=0, atol=0)
        torch.testing.assert_close(got[0, 1:3, 1], new.expand(2, 3))
    model = model_of("qwen2_vl")
    prompt = model.prepare(picture(), "What is this?")
    with pytest.raises(
        ValueError, match=rf"names heads \[\(0, {model.kv_heads}\)\].* with KV heads 0..{model.kv_heads - 1}"
    ):
        capture(model, prompt, interventions=[ZeroValues(Segment.IMAGE, heads=Heads(((0, model.kv_heads),)))])
