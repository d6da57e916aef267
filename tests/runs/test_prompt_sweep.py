"""Sweeps over prompts, kept in one file per prompt."""

import pytest
import torch

from interp.data.heads import Heads
from interp.experiments.erasure import erase_heads
from interp.runs import prompt_sweep
from interp.runs.sweep import sweep


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
    monkeypatch.setattr(prompt_sweep, "erase_heads", lambda *a, **k: calls.append(1) or erase_heads(*a, **k))
    again = sweep(model, prompts, over="heads", folder=tmp_path, progress=False)
    assert len(calls) == 1
    torch.testing.assert_close(again.stack("erased"), swept.stack("erased"))
    sweep(model, prompts[:2], over="heads", folder=tmp_path, progress=False, resume=False)
    assert len(calls) == 3
    some = sweep(model, prompts, over=Heads(((0, 1),)), at="all", folder=tmp_path, progress=False)
    assert len(calls) == 6
    assert int(some[0].erased.isfinite().sum()) == 3


def test_a_prompt_without_a_reply_is_left_out_with_its_reason(answered, tmp_path, picture) -> None:
    model, prompts = answered
    bare = model.prepare(picture(), "What?")
    swept = sweep(model, [bare, prompts[0]], over="heads", folder=tmp_path, progress=False)
    assert swept.samples == (1,)
    assert "teacher-forced reply" in swept.failed[0].reason
    with pytest.raises(
        ValueError, match="none of the 1 prompts could be swept; the error of the first: head erasure needs"
    ):
        sweep(model, [bare], over="heads", folder=tmp_path, progress=False)


def test_strict_stops_at_a_prompt_that_cannot_be_swept(answered, tmp_path, picture) -> None:
    model, prompts = answered
    bare = model.prepare(picture(), "What?")
    with pytest.raises(
        ValueError, match=r"prompt 1 cannot be swept: head erasure needs .*Without strict, it is left out"
    ):
        sweep(model, [prompts[0], bare], over="heads", folder=tmp_path, progress=False, strict=True)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
