"""Replies to scenes: the explained word, its box, and the sinks that replies have in common."""

from dataclasses import replace

import pytest
import torch

import interp
from interp.interventions.method import resolve
from interp.report.reply_view import SHARES, encode_reply
from interp.report.scene_reply import SceneReply, find_common_sinks, mean_shares, view_scene_reply
from interp.world import scenes


def test_shares_sum_to_one_and_the_sink_is_counted_once(study) -> None:
    for values in (study.by_layer, study.by_step):
        torch.testing.assert_close(values.sum(-1), torch.ones(values.shape[0]), atol=2e-3, rtol=0)
        assert float(values.min()) > -1e-3
    one = study.shown
    sink = one.view.attention.mean(1)[:, :, list(study.sinks.positions)].sum(-1)
    torch.testing.assert_close(one.shares(study.sinks.positions)[..., SHARES.index("SINK")], sink)


def test_attention_and_saliency_of_the_word_are_those_of_a_pass_for_it_alone(study) -> None:
    model, one = interp.load("scenes"), study.shown
    seen = interp.capture(model, one.view.prompt, want={"pattern"}, grad={"pattern"}, target=one.at)
    row = len(one.view.prompt) - len(one.view.prompt.response_ids) - 1 + one.at
    torch.testing.assert_close(one.attention, seen.pattern[:, :, row].mean((0, 1)))
    torch.testing.assert_close(one.saliency, (seen.pattern * seen.pattern_grad).abs()[:, :, row].mean((0, 1)))
    assert one.view.prompt.tokens[row + 1] == one.word


def test_inside_the_box_by_hand(study) -> None:
    scene = scenes("test", 1)[0]
    one = replace(study.shown, objects=(replace(scene.objects[0], box=(0, 0, 16, 8)),))
    values = torch.zeros(len(one.view.prompt))
    places = list(one.view.prompt.layout.places())
    # the first two patches of 8 × 8 pixels lie in the box, the third does not
    values[places[0]], values[places[2]] = 3.0, 1.0
    assert one.inside(values) == pytest.approx((0.75, 2 / 64))


def with_sinks(one: SceneReply, positions: tuple[int, ...]) -> SceneReply:
    return replace(one, view=replace(one.view, sinks=replace(one.view.sinks, positions=positions)))


def test_without_sinks_the_most_attended_token_is_taken(study) -> None:
    sinks = find_common_sinks([with_sinks(one, ()) for one in study.replies])
    assert not sinks.found
    assert len(sinks.positions) == 1
    assert sinks.control not in sinks.positions
    both = (*sinks.positions, sinks.control)
    most, control = (sum(float(one.view.sinks.received[:, :, p].mean()) for one in study.replies) for p in both)
    assert most >= control


def test_a_sink_must_last_in_half_of_the_replies(study) -> None:
    replies = [with_sinks(one, p) for one, p in zip(study.replies, [(0, 5), (0,), ()], strict=True)]
    assert find_common_sinks(replies).positions == (0,)
    assert find_common_sinks(replies).scenes == (2,)


def test_replies_of_different_lengths_are_averaged_where_half_last(study) -> None:
    lengths = sorted(len(one.view.prompt.response_ids) for one in study.replies)
    assert mean_shares(study.replies, study.sinks)[1].shape[0] == lengths[1]


def test_a_reply_that_names_nothing_is_viewed_all_the_same() -> None:
    model, scene = interp.load("scenes"), scenes("test", 1)[0]
    prompt = model.prepare(scene.image, "What do you see?")
    one = view_scene_reply(model, scene, encode_reply(model, resolve(model, [prompt], ()), "yes it is"))
    assert (one.at, one.named, one.objects) == (0, "", ())
