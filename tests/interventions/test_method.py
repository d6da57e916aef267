from pathlib import Path

import pytest

import interp
import interp.methods
from interp.data.heads import Heads
from interp.data.tokens import SINKS, Segment
from interp.interventions.attention import ScaleScores
from interp.interventions.method import Together, build_method, methods, resolve, scaled_layers
from interp.methods.locore import Locore
from interp.methods.spear import Spear
from interp.methods.vaf import Vaf


def test_every_file_of_methods_is_a_method_by_its_name():
    files = {path.stem for path in Path(interp.methods.__file__).parent.glob("[!_]*.py")}
    assert set(methods()) == files > {"adhh", "contrast", "sgrs", "vaf"}


def test_a_method_is_found_by_name_with_its_settings():
    assert build_method("spear", enhance=1.2) == Spear(enhance=1.2)
    assert build_method("LocoRE") == Locore()
    assert build_method("AD-HH", heads=[[0, 1]], threshold=0.5).heads == Heads(((0, 1),))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("spaer", {}, r"no method 'spaer' \(did you mean spear\?\); known: adhh, air, "),
        ("nothing", {}, r"no method 'nothing'; known: adhh"),
        (
            "spear",
            {"enhnce": 2},
            r"spear has no setting 'enhnce' \(did you mean enhance\?\); settings: enhance, suppress, mode, layers",
        ),
        ("adhh", {}, "adhh needs another setting: .*heads"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_names_and_settings_that_are_not_there_are_refused(name, settings, message):
    with pytest.raises(ValueError, match=message):
        build_method(name, **settings)


def test_methods_compose_and_are_printed_with_their_settings():
    both = Vaf() + Locore() + Spear()
    assert isinstance(both, Together)
    assert [type(m).__name__ for m in both.of] == ["Vaf", "Locore", "Spear"]
    assert str(both) == f"{Vaf()} + {Locore()} + {Spear()}"
    assert "enhance=1.15, suppress=0.95" in str(both)


def test_a_mixture_comes_to_interventions_in_order(model_of, picture):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is there?")
    own = ScaleScores(Segment.USER, 2.0)
    settled = resolve(model, [prompt], [own, Spear() + Locore()])
    assert [type(c).__name__ for c in settled.interventions] == [
        "ScaleScores",
        "ScaleScores",
        "ScaleScores",
        "ScalePattern",
    ]
    assert settled.interventions[0] is own
    assert "sink" in settled.prompts[0].layout.marks
    assert settled.loop is None


def test_a_method_that_does_not_fit_says_why(model_of):
    model = model_of("qwen2")
    prompt = model.prepare(text="Why?")
    with pytest.raises(
        ValueError, match=r"Vaf\(.*\) does not fit Qwen2ForCausalLM: it amplifies attention to an image"
    ):
        interp.generate(model, prompt, Vaf())


def test_heads_that_are_not_there_are_refused_before_anything_runs(model_of):
    model = model_of("qwen2")
    prompt = model.prepare(text="Why?")
    change = ScaleScores(0, 2.0, heads=Heads(((0, 1), (0, 9))))
    with pytest.raises(
        ValueError, match=r"names heads \[\(0, 9\)\], but Qwen2ForCausalLM has layers 0..1 with heads 0..3"
    ):
        interp.generate(model, prompt, change)


def test_published_layers_keep_their_place_in_another_depth():
    assert scaled_layers(9, 14, 32) == tuple(range(9, 15))
    assert scaled_layers(9, 14, 8) == (2, 3, 4)
    assert scaled_layers(9, 14, 2) == (1,)
    assert scaled_layers(5, 17, 80) == tuple(range(12, 43))


def test_marks_that_are_given_are_kept(model_of, picture):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is there?").marked(sink=[3])
    assert resolve(model, [prompt], [Spear()]).prompts[0].layout.positions(SINKS) == (3,)
