"""What makes a run another run, and what does not."""

import shutil
from dataclasses import dataclass
from typing import final

import pytest
import torch

import interp
from interp.interventions.base import Intervention
from interp.interventions.method import Method
from interp.methods.contrast import Contrast
from interp.methods.locore import Locore
from interp.methods.vaf import Vaf
from interp.runs import identity
from interp.runs.asking import ask
from interp.runs.directory import Run, runs, started


def name(what, method=None) -> str:
    return identity.address(what.identity(method))


def test_another_setting_is_another_run(asked, letters) -> None:
    variants = [
        (asked(), None),
        (asked(seed=8), None),
        (asked(batch_size=4), None),
        (asked(limit=9), None),
        (asked(options={"temperature": 1.4}), None),
        (asked(options={"max_new_tokens": 4}), None),
        (asked(system_prompt="Be brief."), None),
        (asked(letters(shade=1)), None),
        (asked(letters(lost=("1",))), None),
        (asked(), Vaf()),
        (asked(), Vaf(enhance=1.3)),
        (asked(), Vaf() + Locore()),
        (asked(), Locore() + Vaf()),
    ]
    assert len({name(*v) for v in variants}) == len(variants)


def test_the_same_samples_are_the_same_run_however_they_came_about(asked, letters) -> None:
    assert name(asked(letters(n=8))) == name(asked(limit=8))
    assert name(asked(options={"temperature": 2})) == name(asked(options={"temperature": 2.0}))


def test_how_replies_are_read_makes_no_other_run(asked, letters) -> None:
    assert name(asked(letters(letter="a"))) == name(asked(letters(letter="e")))


def test_another_model_is_another_run_and_the_same_weights_are_not(asked, letters) -> None:
    from interp.families.base import family
    from interp.runs.run import questioning

    def named(seed: int, dtype=torch.float32) -> str:
        torch.manual_seed(seed)
        module, processor = family("llava").tiny()
        return name(questioning(interp.load(module.to(dtype), processor=processor), letters()))

    first = named(0)
    assert first == named(0)
    with torch.no_grad():
        torch.manual_seed(0)
        module, processor = family("llava").tiny()
        next(module.parameters()).view(-1)[0] += 1e-3
        other = name(questioning(interp.load(module, processor=processor), letters()))
    assert len({first, other, named(0, torch.bfloat16)}) == 3


def test_the_processor_counts_but_not_where_it_lies_or_what_it_was_used_for(model_of, picture) -> None:
    model = model_of("llava")
    before = identity._processor(model)
    model.tokenizer(["one", "and another"], padding=True)
    model.prepare(picture(), "What?")
    assert identity._processor(model) == before
    template = model.processor.chat_template
    try:
        model.processor.chat_template = template + " "
        assert identity._processor(model) != before
    finally:
        model.processor.chat_template = template


def test_a_directory_of_another_model_is_refused(asked, tmp_path) -> None:
    what = asked()
    run = ask(what, None, tmp_path)
    manifest = what.manifest(None)
    manifest["identity"]["weights"] = "0" * 64
    with pytest.raises(ValueError, match=r"holds another run: weights is .* there and .* here.*interp runs rm"):
        started(tmp_path, run.name, manifest)


def test_a_setting_that_is_a_function_is_refused(asked) -> None:
    with pytest.raises(TypeError, match=r"Contrast holds <function .*cannot be written down"):
        name(asked(), Contrast(against=lambda p: p))


def test_a_method_of_ones_own_carries_its_code(asked) -> None:
    @final
    @dataclass(frozen=True)
    class Nothing(Method):
        def interventions(self, model: object) -> tuple[Intervention, ...]:
            return ()

    described = identity.method_identity(Nothing())
    assert described[0]["name"] == "nothing"
    assert len(described[0]["code"]) == 64
    assert "code" not in identity.method_identity(Vaf())[0]


def test_names_of_directories_are_plain_words() -> None:
    named = identity.directory_name("llava-hf/LLaVA 1.5:7b", "pope", "spear+locore", {"a": 1})
    assert named == f"llava_1.5_7b-pope-spear+locore-{identity.address({'a': 1})}"


def test_runs_of_a_folder(asked, tmp_path, caplog) -> None:
    run = ask(asked(limit=3), None, tmp_path)
    assert runs(tmp_path) == [run]
    assert runs(tmp_path / "nothing") == []
    shutil.copytree(run.path, tmp_path / "broken")
    (tmp_path / "broken" / "manifest.json").write_text("{")
    assert runs(tmp_path) == [run]
    assert "interp runs rm" in caplog.text
    with pytest.raises(ValueError, match=r"manifest\.json cannot be read"):
        Run.open(tmp_path / "broken")
    with pytest.raises(FileNotFoundError, match=r"is no run directory: there is no manifest\.json"):
        Run.open(tmp_path)
