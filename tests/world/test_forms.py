"""MME's forms and questions about two images: the answers are true of the scenes."""

import numpy as np
import pytest

from interp.world import scenes
from interp.world.forms import FORMS, PAIR_FORMS, REGIONS
from interp.world.processor import build_tokenizer
from interp.world.questions import view
from interp.world.text import NUMBERS, groups, mentions, region
from interp.world.version import WORLDS


@pytest.fixture(scope="module")
def seen():
    return [view(scene.place, scene.objects, WORLDS[2]) for scene in scenes("val", 150, version=2)]


def asked(seen, form):
    found = [(each, form(np.random.default_rng(i), each)) for i, each in enumerate(seen)]
    return [(each, *question) for each, question in found if question]


@pytest.mark.parametrize("task", FORMS)
def test_most_answers_are_yes(seen, task):
    answers = [answer for _, _, answer in asked(seen, FORMS[task])]
    assert len(answers) > 80
    assert set(answers) == {"Yes", "No"}
    assert np.mean([answer == "Yes" for answer in answers]) == pytest.approx(0.6, abs=0.12)


def test_positions_are_those_of_the_objects(seen):
    for each, text, answer in asked(seen, FORMS["position"]):
        thing = next(s for s in each.singles if s.name == mentions(text)[0].name)
        where = next(r for r in sorted(REGIONS, key=len, reverse=True) if r in text)
        assert (where == region(thing)) == (answer == "Yes"), text


def test_colours_are_those_of_the_objects(seen):
    for each, text, answer in asked(seen, FORMS["color"]):
        thing = next(s for s in each.singles if s.name == mentions(text)[0].name)
        assert (f" {thing.colour} {thing.name} " in text) == (answer == "Yes"), text


def test_counts_are_those_of_the_groups(seen):
    for each, text, answer in asked(seen, FORMS["count"]):
        group = next(g for g in groups(each.objects, each.world) if g.name == mentions(text)[0].name)
        assert (f" {NUMBERS[group.count]} " in text) == (answer == "Yes"), text


def test_questions_about_two_images_are_about_the_right_one(seen):
    tokenizer = build_tokenizer()
    couples = list(zip(seen[::2], seen[1::2], strict=True))
    for kind, form in PAIR_FORMS.items():
        found = asked(couples, form)
        assert len(found) > 20
        for couple, text, answer in found:
            at = "second" in (answer if kind == "which" else text)
            here, there = couple[at], couple[1 - at]
            names = {thing.name for thing in here.objects}
            if kind == "existence":
                assert (mentions(text)[0].name in names) == (answer == "Yes"), text
            elif kind == "which":
                assert mentions(text)[0].name in names - {thing.name for thing in there.objects}
            elif kind in ("place", "caption"):
                assert here.place in answer.lower()
            assert tokenizer.unk_token_id not in tokenizer(f"{text} {answer}")["input_ids"], text
