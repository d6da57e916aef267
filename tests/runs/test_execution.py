"""Batches of a run: samples that fail, seeds, memory, attention, the progress bar."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import interp
from interp.runs import execution
from interp.runs.execution import execute
from interp.runs.spec import build_prompt
from interp.taps.eager import EagerRows


def test_eager_attention_computes_every_layer_and_leaves_nothing_behind(asked, letters, tmp_path, monkeypatch) -> None:
    calls = []
    plain = EagerRows.attend
    monkeypatch.setattr(EagerRows, "attend", lambda self: calls.append(1) or plain(self))
    what = asked(letters(n=2))
    execute(what, None, tmp_path)
    assert not calls
    execute(replace(what, attention="eager"), None, tmp_path)
    assert len(calls) >= what.model.layers
    count = len(calls)
    execute(replace(what, seed=9), None, tmp_path)
    assert len(calls) == count


def test_a_sample_that_fails_is_a_row_that_says_why(asked, letters, tmp_path) -> None:
    what = asked(letters(lost=("1",)))
    run = execute(what, None, tmp_path)
    errors = {r.id: r.error for r in run.rows() if r.error}
    assert errors == dict.fromkeys(("q2", "q3"), "FileNotFoundError: no image 1")
    assert [r.id for r in run.rows()] == [f"q{i}" for i in range(10)]
    line = interp.compare([run], benchmark=what.benchmark).frame.iloc[-1]
    assert (line["n"], line["failed"]) == (10, 2)
    with pytest.raises(ValueError, match="sample q2 cannot be asked: FileNotFoundError: no image 1"):
        execute(what, None, tmp_path, strict=True)
    with pytest.raises(ValueError, match="sample q2 cannot be asked"):
        execute(what, None, tmp_path / "new", strict=True)


def test_any_error_of_an_image_is_recorded(asked, letters, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.fromarray(np.zeros((30, 30, 3), dtype=np.uint8)).save(tmp_path / "large.png")

    def image(self: Any, sample: Any) -> Any:
        return str(tmp_path / "large.png") if sample.id == "q4" else np.zeros((20, 20, 3), dtype=np.uint8)

    monkeypatch.setattr(letters, "image", image)
    run = execute(asked(), None, tmp_path)
    assert [r.id for r in run.rows() if r.error] == ["q4"]
    assert "DecompressionBomb" in run.rows()[4].error


def test_a_prompt_that_is_too_long_is_a_row_that_says_so(asked, letters, tmp_path, monkeypatch) -> None:
    what = asked()
    lengths = [len(build_prompt(what, s)) for s in what.samples]
    monkeypatch.setattr(type(what.model), "context", max(lengths) + 4)
    rows = execute(what, None, tmp_path).rows()
    long = [n == max(lengths) for n in lengths]
    assert [bool(r.error) for r in rows] == long
    assert 0 < sum(long) < 10
    assert f"the prompt has {max(lengths)} tokens and the reply may have 5" in rows[long.index(True)].error


def test_one_prompt_that_spoils_its_batch_fails_alone(asked, tmp_path, monkeypatch) -> None:
    plain, what = execution.generate, asked()
    bad = len(build_prompt(what, what.samples[2]))

    def choosy(model: Any, prompts: Any, *interventions: Any, **options: Any) -> Any:
        each = prompts if isinstance(prompts, list) else [prompts]
        if any(len(p) == bad for p in each):
            raise ValueError("nothing to look at")
        return plain(model, prompts, *interventions, **options)

    monkeypatch.setattr(execution, "generate", choosy)
    rows = execute(what, None, tmp_path).rows()
    assert [r.id for r in rows if r.error] == ["q2", "q5", "q8"]
    assert rows[2].error == "ValueError: nothing to look at"


def test_what_no_sample_survives_stops_the_run(asked, tmp_path) -> None:
    with pytest.raises(ValueError, match="model_kwargs"):
        execute(asked(options={"temprature": 2}), None, tmp_path)
    assert not list(tmp_path.glob("*/rows.jsonl"))


def test_a_batch_that_does_not_fit_on_the_gpu_says_what_to_do(asked, tmp_path, monkeypatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(execution, "generate", full)
    with pytest.raises(MemoryError, match="3 samples at once do not fit on the GPU; a batch_size below 3 may"):
        execute(asked(), None, tmp_path)


def test_what_is_drawn_is_drawn_batch_by_batch(asked, tmp_path) -> None:
    first, other = (execute(asked(seed=s), None, tmp_path).rows() for s in (1, 2))
    assert [r.ids for r in first] != [r.ids for r in other]
    seeds = {execution._batch_seed(0, batch) for batch in range(50)} | {
        execution._batch_seed(1, batch) for batch in range(50)
    }
    assert len(seeds) == 100


def test_the_bar_shows_the_score_so_far(asked, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(execution, "_REFRESH", 0)
    execute(asked(), None, tmp_path, progress=True)
    said = capsys.readouterr().err
    assert "10/10" in said
    assert "held=" in said
    execute(asked(), None, tmp_path, progress=True)
    assert capsys.readouterr().err == ""
