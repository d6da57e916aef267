"""Sweeps over settings, layers and heads."""

import numpy as np
import pytest
import torch

import interp
from interp.data.heads import Heads
from interp.experiments.effect import Loss, Probability, effect
from interp.experiments.erasure import erase_heads
from interp.interventions.heads import AblateHeads
from interp.methods.locore import Locore
from interp.methods.spear import Spear
from interp.runs import execution, prompt_sweep
from interp.runs.sweep import sweep, vary_settings


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
    monkeypatch.setattr(execution, "generate", lambda *_, **__: pytest.fail("it was asked again"))
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
    assert vary_settings(both, {"gain": 1}) == Spear() + Locore(gain=1.0)
    assert vary_settings(Spear(), {"layers": [1, 2]}) == Spear(layers=(1, 2))
    with pytest.raises(ValueError, match="more than one method has a setting 'layers'; spear: enhance"):
        vary_settings(both, {"layers": (1,)})
    with pytest.raises(ValueError, match="no method has a setting 'gian'"):
        vary_settings(both, {"gian": 1})


@pytest.mark.parametrize(
    ("over", "method", "error", "message"),
    [
        (
            {"enhence": [1]},
            "spear",
            ValueError,
            r"no method has a setting 'enhence' \(did you mean enhance\?\); spear: enhance",
        ),
        ({"enhance": []}, "spear", ValueError, "nothing to sweep over"),
        ({}, "spear", ValueError, "nothing to sweep over"),
        ({"enhance": [1]}, "greedy", ValueError, "greedy has no settings"),
        ("layer", "spear", ValueError, r"'layers' or 'heads', got 'layer' \(did you mean layers\?\)"),
        ("heads", "spear", TypeError, "heads are ablated in the baseline: leave method out"),
        (Heads(((0, 0),)), "spear", TypeError, "heads are ablated in the baseline: leave method out"),
        ("layers", None, TypeError, "settings and layers belong to a method; name it"),
        ("layers", "spaer", ValueError, r"no method 'spaer' \(did you mean spear\?\)"),
        (Heads(((0, 99),)), None, ValueError, r"heads \[\(0, 99\)\] are not there"),
    ],
)
def test_wrong_input(model_of, letters, tmp_path, unchecked, over, method, error, message) -> None:
    with pytest.raises(error, match=message):
        sweep(model_of("llava"), letters(), over=over, method=method, folder=tmp_path)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"over": {"enhance": [1]}, "method": "spear"}, TypeError, "needs a quantity: of=Loss"),
        (
            {"over": "layers", "method": "spear", "of": 3},
            TypeError,
            "of: expected a Quantity or the name of one, got int 3",
        ),
        ({"over": {"enhence": [1]}, "method": "spear", "of": Loss()}, ValueError, "did you mean enhance"),
        ({"over": {}, "method": "spear", "of": Loss()}, ValueError, "nothing to sweep over"),
        ({"over": Heads(()), "of": Loss()}, ValueError, "no intervention to try"),
    ],
)
def test_wrong_input_over_prompts(answered, tmp_path, unchecked, given, error, message) -> None:
    model, prompts = answered
    with pytest.raises(error, match=message):
        sweep(model, prompts, folder=tmp_path, **given)
    with pytest.raises(ValueError, match="no prompt to sweep over"):
        sweep(model, [], over="heads", folder=tmp_path)


def test_a_benchmark_takes_no_quantity(model_of, letters, tmp_path, unchecked) -> None:
    with pytest.raises(TypeError, match="measures its scores; of= is for prompts"):
        sweep(model_of("llava"), letters(), over="layers", method="spear", of=Loss(), folder=tmp_path)


def test_a_quantity_is_followed_like_in_effect(answered, tmp_path, monkeypatch) -> None:
    model, prompts = answered
    settings = {"method": "spear:enhance=3", "of": Loss(), "folder": tmp_path, "progress": False}
    swept = sweep(model, prompts, over="layers", **settings)
    assert swept[0].candidates == tuple(f"layers=({i},)" for i in range(model.layers))
    for prompt, result in zip(prompts, swept, strict=True):
        each = [effect(model, prompt, Spear(enhance=3.0, layers=(i,)), of=Loss()) for i in range(model.layers)]
        torch.testing.assert_close(result.under, torch.tensor([e.under for e in each]))
        assert result.without == pytest.approx(each[0].without)
    assert not torch.equal(swept[0].under, torch.full_like(swept[0].under, swept[0].without))
    files = list(tmp_path.rglob("*.safetensors"))
    assert len(files) == 3
    other = sweep(model, prompts, over={"enhance": [1.0, 3.0]}, **settings)
    assert list(other.frame()["candidate"].unique()) == ["enhance=1.0", "enhance=3.0"]
    assert len(list(tmp_path.rglob("*.safetensors"))) == 6
    sweep(model, prompts, over="layers", **{**settings, "of": Probability(5)})
    assert len(list(tmp_path.rglob("*.safetensors"))) == 9
    monkeypatch.setattr(prompt_sweep, "_follow", lambda *_: pytest.fail("it was computed again"))
    again = sweep(model, prompts, over="layers", **settings)
    torch.testing.assert_close(again.stack(), swept.stack())


def test_a_quantity_without_each_head(answered, tmp_path) -> None:
    model, prompts = answered
    swept = sweep(model, prompts[:1], over="heads", of=Loss(), folder=tmp_path, progress=False)
    assert len(swept[0].candidates) == model.layers * model.heads
    which = swept[0].candidates.index("1.0")
    alone = effect(model, prompts[0], AblateHeads(Heads(((1, 0),))), of=Loss())
    assert float(swept[0].under[which]) == pytest.approx(alone.under)
    exact = sweep(model, prompts[:1], over=Heads(((1, 0),)), at="all", folder=tmp_path, progress=False)
    assert alone.under == pytest.approx(-float(exact[0].erased[1, 0].mean()), abs=1e-5)


def test_heads_are_erased_from_the_replies_to_a_benchmark(model_of, letters, tmp_path, monkeypatch) -> None:
    model = model_of("llava")
    settings = {"folder": tmp_path, "progress": False, "min_new_tokens": 3, "limit": 4, "batch_size": 2}
    swept = sweep(model, letters(lost=("0",)), over="heads", **settings)
    assert swept.samples == (2, 3)
    assert [f.sample for f in swept.failed] == [0, 1]
    assert "no image 0" in swept.failed[0].reason
    bench, sample = letters(), letters().samples()[3]
    prompt = model.prepare(bench.image(sample), sample.question)
    reply = interp.generate(model, prompt, max_new_tokens=bench.longest, min_new_tokens=3)
    torch.testing.assert_close(swept[1].erased, erase_heads(model, prompt.with_response(reply)).erased)
    monkeypatch.setattr(execution, "generate", lambda *_, **__: pytest.fail("it was asked again"))
    monkeypatch.setattr(prompt_sweep, "erase_heads", lambda *_, **__: pytest.fail("it was erased again"))
    torch.testing.assert_close(
        sweep(model, letters(lost=("0",)), over="heads", **settings).stack(), swept.stack(), equal_nan=True
    )
