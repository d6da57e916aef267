"""`run`: one call from names to a table; samples that fail; what is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import interp
from interp.bench.base import Sample
from interp.methods.locore import Locore
from interp.methods.spear import Spear
from interp.runs import asking
from interp.runs import run as run_module
from interp.runs.asking import ask
from interp.runs.run import limited, questioning


@pytest.fixture
def settings(tmp_path) -> dict[str, Any]:
    return {"batch_size": 4, "folder": tmp_path, "progress": False, "min_new_tokens": 5}


def test_the_table_has_the_model_as_it_is_and_every_method(model_of, letters, settings) -> None:
    table = interp.run(model_of("llava"), letters(), [Spear(enhance=3.0), "spear:enhance=2+locore"], **settings)
    assert list(table.frame["method"].unique()) == ["greedy", "spear", "spear+locore"]
    assert list(table.frame["settings"].unique()) == ["", "enhance=3.0", "enhance=2.0"]
    assert list(table.frame["part"].unique()) == ["left", "right", "total"]
    assert table.about["samples"] == 10
    assert set(table.frame.loc[table.frame["part"] == "total", "n"]) == {10}
    assert list(table.runs) == ["greedy", "spear", "spear+locore"]


def test_rows_are_the_replies_of_generate(model_of, letters, settings) -> None:
    model, benchmark = model_of("llava"), letters(n=6)
    settings = settings | {"min_new_tokens": 1}
    table = interp.run(model, benchmark, [Locore(gain=2.0)], **settings | {"batch_size": 6})
    prompts = [model.prepare(benchmark.image(s), s.question) for s in benchmark.samples()]
    for name, interventions in {"greedy": (), "locore": (Locore(gain=2.0),)}.items():
        replies = interp.generate(model, prompts, *interventions, max_new_tokens=5, min_new_tokens=1)
        rows = interp.runs.directory.Run.open(table.runs[name]).rows()
        assert [r.ids for r in rows] == [r.ids for r in replies]
        torch.testing.assert_close([p for r in rows for p in r.logprobs], [p for r in replies for p in r.logprobs])
        assert [r.reply for r in rows] == [r.text for r in replies]
        assert [r.prompt for r in rows] == [len(p) for p in prompts]


def test_names_stand_for_models_and_benchmarks(settings) -> None:
    table = interp.run("scenes", "steps:n=3,longest=4", ["greedy"], **settings | {"min_new_tokens": 1})
    assert table.about["model"] == "scenes"
    assert table.about["benchmark"] == "steps"
    assert list(table.frame["method"]) == ["greedy"]


def test_a_sample_that_fails_is_a_row_that_says_why(asked, letters, tmp_path) -> None:
    what = asked(letters(lost=("1",)))
    run = ask(what, None, tmp_path)
    errors = {r.id: r.error for r in run.rows() if r.error}
    assert errors == dict.fromkeys(("q2", "q3"), "FileNotFoundError: no image 1")
    assert [r.id for r in run.rows()] == [f"q{i}" for i in range(10)]
    line = interp.compare([run], benchmark=what.benchmark).frame.iloc[-1]
    assert (line["n"], line["failed"]) == (10, 2)
    with pytest.raises(ValueError, match="sample q2 cannot be asked: FileNotFoundError: no image 1"):
        ask(what, None, tmp_path, strict=True)
    with pytest.raises(ValueError, match="sample q2 cannot be asked"):
        ask(what, None, tmp_path / "new", strict=True)


def test_whatever_an_image_does_is_told(asked, letters, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.fromarray(np.zeros((30, 30, 3), dtype=np.uint8)).save(tmp_path / "large.png")

    def image(self: Any, sample: Any) -> Any:
        return str(tmp_path / "large.png") if sample.id == "q4" else np.zeros((20, 20, 3), dtype=np.uint8)

    monkeypatch.setattr(letters, "image", image)
    run = ask(asked(), None, tmp_path)
    assert [r.id for r in run.rows() if r.error] == ["q4"]
    assert "DecompressionBomb" in run.rows()[4].error


def test_a_prompt_that_is_too_long_is_a_row_that_says_so(asked, letters, tmp_path, monkeypatch) -> None:
    what = asked()
    lengths = [len(asking.prompted(what, s)) for s in what.samples]
    monkeypatch.setattr(type(what.model), "context", max(lengths) + 4)
    rows = ask(what, None, tmp_path).rows()
    long = [n == max(lengths) for n in lengths]
    assert [bool(r.error) for r in rows] == long
    assert 0 < sum(long) < 10
    assert f"the prompt has {max(lengths)} tokens and the reply may have 5" in rows[long.index(True)].error


def test_one_prompt_that_spoils_its_batch_fails_alone(asked, tmp_path, monkeypatch) -> None:
    plain, what = asking.generate, asked()
    bad = len(asking.prompted(what, what.samples[2]))

    def choosy(model: Any, prompts: Any, *interventions: Any, **options: Any) -> Any:
        each = prompts if isinstance(prompts, list) else [prompts]
        if any(len(p) == bad for p in each):
            raise ValueError("nothing to look at")
        return plain(model, prompts, *interventions, **options)

    monkeypatch.setattr(asking, "generate", choosy)
    rows = ask(what, None, tmp_path).rows()
    assert [r.id for r in rows if r.error] == ["q2", "q5", "q8"]
    assert rows[2].error == "ValueError: nothing to look at"


def test_what_no_sample_survives_stops_the_run(asked, tmp_path) -> None:
    with pytest.raises(ValueError, match="model_kwargs"):
        ask(asked(options={"temprature": 2}), None, tmp_path)
    assert not list(tmp_path.glob("*/rows.jsonl"))


def test_a_batch_that_does_not_fit_on_the_gpu_says_what_to_do(asked, tmp_path, monkeypatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(asking, "generate", full)
    with pytest.raises(MemoryError, match="3 samples at once do not fit on the GPU; a batch_size below 3 may"):
        ask(asked(), None, tmp_path)


def test_what_is_drawn_is_drawn_batch_by_batch(asked, tmp_path) -> None:
    first, other = (ask(asked(seed=s), None, tmp_path).rows() for s in (1, 2))
    assert [r.ids for r in first] != [r.ids for r in other]
    seeds = {asking._seed(0, batch) for batch in range(50)} | {asking._seed(1, batch) for batch in range(50)}
    assert len(seeds) == 100


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"methods": ["spaer"]}, r"no method 'spaer' \(do you mean spear\?\)"),
        ({"methods": ["spear:enhence=1"]}, r"has no setting 'enhence' \(do you mean enhance\?\)"),
        ({"benchmark": "popes"}, r"no benchmark 'popes' \(do you mean pope\?\)"),
        ({"benchmark": "steps:longst=1"}, r"has no setting 'longst' \(do you mean longest\?\)"),
        ({"limit": 0}, "batch_size and limit are at least 1, got 4 and 0"),
        ({"batch_size": 0}, "batch_size and limit are at least 1, got 0"),
        ({"num_return_sequences": 2}, "a run keeps one reply a sample; leave num_return_sequences=2 out"),
        ({"methods": ["contrast"], "num_beams": 2}, "cannot decode under these options"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_asked(model_of, letters, settings, tmp_path, given, message) -> None:
    with pytest.raises(ValueError, match=message):
        interp.run(**{"model": model_of("llava"), "benchmark": letters(), **settings, **given})
    assert not list(tmp_path.iterdir())


def test_a_method_that_does_not_fit_is_refused_before_the_baseline_is_asked(
    model_of, letters, settings, tmp_path
) -> None:
    with pytest.raises(ValueError, match=r"Spear\(.*does not fit .*: it moves attention to an image"):
        interp.run(model_of("llama"), letters(), ["spear"], **settings)
    assert not list(tmp_path.iterdir())


def test_a_limit_is_spread_over_the_parts_in_whole_groups() -> None:
    samples = [Sample(f"{p}{g}{i}", "What?", part=p, group=f"{p}{g}") for p in "ab" for g in range(4) for i in range(2)]
    assert [s.id for s in limited(samples, 7)] == ["a00", "a01", "a10", "a11", "b00", "b01"]
    assert [s.id for s in limited(samples, 1)] == ["a00"]
    assert limited(samples, 16) == limited(samples, 99) == samples
    assert len(limited([Sample(f"{i}", "What?") for i in range(5)], 3)) == 3


def test_samples_need_names_of_their_own(model_of, letters, monkeypatch) -> None:
    plain = letters.samples
    monkeypatch.setattr(letters, "samples", lambda self: [replace(s, id="q") for s in plain(self)])
    with pytest.raises(ValueError, match="has several samples of one id: q"):
        questioning(model_of("llava"), letters())
    monkeypatch.setattr(letters, "samples", lambda self: [])
    with pytest.raises(ValueError, match="has no sample"):
        questioning(model_of("llava"), letters())


def test_names_are_understood_before_the_model_is_loaded(letters, monkeypatch) -> None:
    monkeypatch.setattr(run_module, "load", lambda name: pytest.fail("it was loaded"))
    with pytest.raises(ValueError, match="no method"):
        interp.run("scenes", letters(), ["nothing"])


def test_the_bar_shows_the_score_so_far(asked, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(asking, "OFTEN", 0)
    ask(asked(), None, tmp_path, progress=True)
    said = capsys.readouterr().err
    assert "10/10" in said
    assert "held=" in said
    ask(asked(), None, tmp_path, progress=True)
    assert capsys.readouterr().err == ""
