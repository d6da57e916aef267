"""What makes a run another run, and what does not."""

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


def name(what, method=None) -> str:
    return identity.hash_identity(what.identity(method))


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
    from interp.runs.spec import build_spec

    def named(seed: int, dtype=torch.float32) -> str:
        torch.manual_seed(seed)
        module, processor = family("llava").tiny()
        return name(build_spec(interp.load(module.to(dtype), processor=processor), letters()))

    first = named(0)
    assert first == named(0)
    with torch.no_grad():
        torch.manual_seed(0)
        module, processor = family("llava").tiny()
        next(module.parameters()).view(-1)[0] += 1e-3
        other = name(build_spec(interp.load(module, processor=processor), letters()))
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


def test_a_setting_that_is_a_function_is_refused(asked) -> None:
    with pytest.raises(TypeError, match=r"Contrast holds <function .*has no JSON form"):
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
    named = identity.name_directory("llava-hf/LLaVA 1.5:7b", "pope", "spear+locore", {"a": 1})
    assert named == f"llava_1.5_7b-pope-spear+locore-{identity.hash_identity({'a': 1})}"
