"""`run`: one call from names to a table; samples that fail; what is refused."""

from typing import Any

import pytest
import torch

import interp
from interp.methods.locore import Locore
from interp.methods.spear import Spear
from interp.runs import run as run_module


@pytest.fixture
def settings(tmp_path) -> dict[str, Any]:
    return {"batch_size": 4, "folder": tmp_path, "progress": False, "min_new_tokens": 5}


def test_the_table_has_the_baseline_and_every_method(model_of, letters, settings) -> None:
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


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"methods": ["spaer"]}, r"no method 'spaer' \(did you mean spear\?\)"),
        ({"methods": ["spear:enhence=1"]}, r"has no setting 'enhence' \(did you mean enhance\?\)"),
        ({"benchmark": "popes"}, r"no benchmark 'popes' \(did you mean pope\?\)"),
        ({"benchmark": "steps:longst=1"}, r"has no setting 'longst' \(did you mean longest\?\)"),
        ({"limit": 0}, "batch_size and limit are at least 1, got 4 and 0"),
        ({"batch_size": 0}, "batch_size and limit are at least 1, got 0"),
        ({"num_return_sequences": 2}, "a run keeps one reply per sample; leave out num_return_sequences=2"),
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


def test_names_are_understood_before_the_model_is_loaded(letters, monkeypatch) -> None:
    monkeypatch.setattr(run_module, "load", lambda name: pytest.fail("it was loaded"))
    with pytest.raises(ValueError, match="no method"):
        interp.run("scenes", letters(), ["nothing"])
