"""Sweeps over settings, layers and heads."""

import numpy as np
import pytest
import torch

import interp
from interp.experiments.erasure import erase_heads
from interp.heads import Heads
from interp.methods.locore import Locore
from interp.methods.spear import Spear
from interp.runs import asking
from interp.runs import sweep as sweep_module
from interp.runs.sweep import sweep, varied


def test_every_combination_is_a_run_of_its_own(model_of, letters, tmp_path, monkeypatch) -> None:
    model, settings = model_of("llava"), {"folder": tmp_path, "progress": False, "min_new_tokens": 5, "batch_size": 5}
    over = {"enhance": [1.0, 4.0], "suppress": [0.5, 1.0]}
    table = sweep(model, letters(), method="spear", over=over, **settings)
    whole = table.frame[table.frame["part"] == "total"]
    assert list(whole["method"])[:2] == ["greedy", "spear enhance=1.0, suppress=0.5"]
    assert list(whole["enhance"])[1:] == [1.0, 1.0, 4.0, 4.0]
    assert list(whole["suppress"])[1:] == [0.5, 1.0, 0.5, 1.0]
    alone = interp.run(model, letters(), [Spear(enhance=4.0, suppress=0.5)], **settings)
    np.testing.assert_allclose(whole["length"].iloc[3], alone.score("spear", "length"))
    monkeypatch.setattr(asking, "generate", lambda *_, **__: pytest.fail("it was asked again"))
    again = sweep(model, letters(), method="spear", over=over, **settings)
    np.testing.assert_array_equal(again.frame["length"], table.frame["length"])


def test_layers_one_by_one(model_of, letters, tmp_path) -> None:
    model = model_of("llava")
    settings = {"folder": tmp_path, "progress": False, "min_new_tokens": 5, "limit": 4}
    table = sweep(model, letters(), method="spear:enhance=3", over="layers", **settings)
    whole = table.frame[table.frame["part"] == "total"]
    assert list(whole["layers"])[1:] == [(i,) for i in range(model.layers)]


def test_a_setting_goes_to_the_method_that_has_it() -> None:
    both = Spear() + Locore()
    assert varied(both, {"gain": 1}) == Spear() + Locore(gain=1.0)
    assert varied(Spear(), {"layers": [1, 2]}) == Spear(layers=(1, 2))
    with pytest.raises(ValueError, match="more than one method has a setting 'layers'; spear: enhance"):
        varied(both, {"layers": (1,)})
    with pytest.raises(ValueError, match="no method has a setting 'gian'"):
        varied(both, {"gian": 1})


@pytest.fixture
def answered(model_of, picture):
    model = model_of("llava")
    return model, [model.prepare(picture(seed=i), "What?").with_response([5 + i, 6, 7]) for i in range(3)]


def test_heads_are_erased_once(answered, tmp_path, monkeypatch) -> None:
    model, prompts = answered
    swept = sweep(model, prompts, over="heads", folder=tmp_path, progress=False)
    for prompt, result in zip(prompts, swept, strict=True):
        torch.testing.assert_close(result.erased, erase_heads(model, prompt).erased)
    assert swept.stack("erased").shape == (3, model.layers, model.heads, 3)
    files = list(tmp_path.rglob("*.safetensors"))
    assert len(files) == 3
    files[0].unlink()
    calls = []
    monkeypatch.setattr(sweep_module, "erase_heads", lambda *a, **k: calls.append(1) or erase_heads(*a, **k))
    again = sweep(model, prompts, over="heads", folder=tmp_path, progress=False)
    assert len(calls) == 1
    torch.testing.assert_close(again.stack("erased"), swept.stack("erased"))
    some = sweep(model, prompts, over=Heads(((0, 1),)), at="all", folder=tmp_path, progress=False)
    assert len(calls) == 4
    assert int(some[0].erased.isfinite().sum()) == 3


def test_a_prompt_without_a_reply_is_left_out_and_told(answered, tmp_path, picture) -> None:
    model, prompts = answered
    bare = model.prepare(picture(), "What?")
    swept = sweep(model, [bare, prompts[0]], over="heads", folder=tmp_path, progress=False)
    assert swept.samples == (1,)
    assert "teacher-forced reply" in swept.failed[0].reason
    with pytest.raises(ValueError, match="not one of 1 prompts could be swept; the first says: head erasure needs"):
        sweep(model, [bare], over="heads", folder=tmp_path, progress=False)


@pytest.mark.parametrize(
    ("over", "method", "error", "message"),
    [
        ({"enhence": [1]}, "spear", ValueError, "no method has a setting 'enhence'; spear: enhance"),
        ({"enhance": []}, "spear", ValueError, "there is nothing to sweep over"),
        ({}, "spear", ValueError, "there is nothing to sweep over"),
        ({"enhance": [1]}, "greedy", ValueError, "greedy has no settings"),
        ("layer", "spear", ValueError, "or 'layers', got 'layer'"),
        ("heads", "spear", TypeError, "heads are erased from replies"),
    ],
)
def test_wrong_input(model_of, letters, tmp_path, unchecked, over, method, error, message) -> None:
    with pytest.raises(error, match=message):
        sweep(model_of("llava"), letters(), over=over, method=method, folder=tmp_path)


def test_prompts_take_heads_alone(answered, tmp_path, unchecked) -> None:
    model, prompts = answered
    with pytest.raises(TypeError, match="over prompts, sweep takes heads"):
        sweep(model, prompts, over={"enhance": [1]}, folder=tmp_path)
    with pytest.raises(ValueError, match="there is no prompt"):
        sweep(model, [], over="heads", folder=tmp_path)
