"""`interp generate`."""

import json

import pytest
import torch

import interp
from interp.interventions.attention import MaskAttention
from interp.interventions.function import Apply
from interp.world import scenes

ASK = ("scene:test/3", "Describe the image in detail.", "--max-new-tokens", "6")


@pytest.fixture(scope="module")
def prompt():
    model = interp.load("scenes")
    return model, model.prepare(scenes("test", 4)[3].image, ASK[1])


def test_the_reply_is_that_of_the_library(interp_, prompt) -> None:
    done = interp_("generate", *ASK)
    reply = interp.generate(*prompt, max_new_tokens=6)
    assert (done.code, done.out.strip()) == (0, reply.text)


def test_json_holds_the_whole_reply(interp_, prompt) -> None:
    said = json.loads(interp_("generate", *ASK, "--json").out)
    reply = interp.generate(*prompt, max_new_tokens=6)
    assert said["ids"] == list(reply.ids)
    assert said["stop"] == reply.stop
    torch.testing.assert_close(torch.tensor(said["logprobs"]), torch.tensor(reply.logprobs))


def test_changes_from_a_file_change_the_reply_and_are_audited(interp_, prompt, tmp_path) -> None:
    change = MaskAttention(keys=interp.Segment.IMAGE)
    path = tmp_path / "changes.json"
    path.write_text(json.dumps([change.to_dict()]))
    said = json.loads(interp_("generate", *ASK, "--interventions", path, "--json").out)
    reply = interp.generate(*prompt, change, max_new_tokens=6)
    assert said["ids"] == list(reply.ids)
    assert said["logprobs"] != list(interp.generate(*prompt, max_new_tokens=6).logprobs)
    assert said["audit"][0]["intervention"].startswith("MaskAttention(keys=IMAGE")
    assert said["audit"][0]["layers"] == list(range(prompt[0].layers))
    shown = interp_("generate", *ASK, "--interventions", path, "--audit").out
    assert "MaskAttention(keys=IMAGE" in shown
    assert "masked" in shown


def test_sinks_are_masked_or_there_are_none(interp_, prompt) -> None:
    from interp.analysis.sinks import Sinks

    found = interp.measure(*prompt, Sinks())
    done = interp_("generate", *ASK, "--mask-sinks", "--json")
    if not found.positions:
        assert (done.code, done.out) == (1, "")
        assert "no attention sink by the default bounds" in done.err
        return
    change = MaskAttention(keys=found.tokens, queries=interp.Segment.USER | interp.Segment.RESPONSE)
    assert json.loads(done.out)["ids"] == list(interp.generate(*prompt, change, max_new_tokens=6).ids)


def test_sampling_repeats_with_its_seed(interp_) -> None:
    ask = ("scene:counter_prior/0", "Describe the image in detail.", "--max-new-tokens", "60")
    first, again, other = (
        json.loads(interp_("generate", *ask, "--sample", "--seed", seed, "--json").out)["ids"] for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_what_a_model_says_is_printed_as_it_is(interp_, monkeypatch) -> None:
    from dataclasses import replace

    plain = interp.generate
    said = "[bold]<script>[/bold] :smile:"
    monkeypatch.setattr(interp, "generate", lambda *a, **k: replace(plain(*a, **k), text=said), raising=False)
    assert interp_("generate", *ASK).out.strip() == said


def test_no_change_is_no_audit(interp_) -> None:
    assert "no intervention was applied" in interp_("generate", *ASK, "--audit").out


def test_a_change_that_changed_nothing_is_a_warning_in_one_line(interp_, tmp_path) -> None:
    path = tmp_path / "changes.json"
    path.write_text(json.dumps([{"kind": "ScaleScores", "keys": {"kind": "segment", "of": ["IMAGE"]}, "by": 1.0}]))
    done = interp_("generate", *ASK, "--interventions", path)
    assert done.code == 0
    assert done.err.startswith("warning: ScaleScores")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (("none.png", "Hi"), 1, ("no image file none.png",)),
        (("scene:tset/1", "Hi"), 1, ("scene:SPLIT/N",)),
        (("Is there a dog?",), 2, ("Missing argument 'QUESTION'",)),
        (("scene:test/1", ""), 1, ("the question is empty",)),
        (("scene:test/1", "Hi", "--model", "/no/such/folder"), 1, ("'/no/such/folder' is neither an embedded model",)),
        (
            ("scene:test/1", "Hi", "--model", "sceens"),
            1,
            ("'sceens' is neither an embedded model (did you mean scenes?)"),
        ),
        (("scene:test/1", "Hi", "--interventions", "none.json"), 1, ("none.json",)),
        (("scene:test/1", "Hi", "--seed", "1"), 2, ("--seed is for --sample",)),
        (("scene:test/1", "Hi", "--max-new-tokens", "0"), 2, ("--max-new-tokens",)),
        (("scene:test/1", "Hi", "--max-new-tokens", "9999"), 1, ("ask for at most",)),
        (("scene:test/1", "Hi", "--frob"), 2, ("No such option", "--frob")),
    ],
)
def test_wrong_input(refused, given, code, words) -> None:
    refused(("generate", *given), code, *words)


def test_a_layer_that_is_not_there(refused, tmp_path) -> None:
    path = tmp_path / "changes.json"
    path.write_text(json.dumps(MaskAttention(keys=0, layers=(99,)).to_dict()))
    refused(("generate", *ASK, "--interventions", path), 1, "names layers [99]", "has layers 0..")


def test_a_function_cannot_be_written_down() -> None:
    with pytest.raises(TypeError, match="cannot be written to a file"):
        Apply("v", lambda value, here: value).to_dict()
