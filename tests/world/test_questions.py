"""Every answer is derived again from the objects, in other ways than it was made."""

import re

import numpy as np
import pytest

from interp.world import CLASSES, PLACES, scenes
from interp.world.objects import PLURALS, VISIBLE
from interp.world.questions import KINDS, PROBES, draw_question, view
from interp.world.wording import reword

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")
REGIONS = {
    "at the top left": (0, 0), "at the top": (1, 0), "at the top right": (2, 0),
    "on the left": (0, 1), "in the center": (1, 1), "on the right": (2, 1),
    "at the bottom left": (0, 2), "at the bottom": (1, 2), "at the bottom right": (2, 2),
}  # fmt: skip


def seen(scene, name=None):
    return [o for o in scene.objects if o.visible >= VISIBLE and name in (None, o.name)]


def cell(thing):
    return (int(3 * thing.centre[0] // 64), int(3 * thing.centre[1] // 64))


def class_in(text):
    words = re.findall(r"\w+", text)
    return next(n for n in CLASSES if n in words or PLURALS[n] in words)


def true_step(scene, step):
    """Whether one sentence of a multi-step answer holds."""
    said = step.split(", ", 1)[1].rstrip(".")
    if said.startswith("the image shows"):
        return said[len("the image shows ") :] == scene.captions["short"][0].lower() + scene.captions["short"][1:-1]
    if match := re.fullmatch(r"there (?:is|are) (\w+) objects?", said):
        return WORDS.index(match[1]) == len(seen(scene))
    if match := re.fullmatch(r"(.+) there is an? (\w+) (\w+)", said):
        return [(o.colour, o.name) for o in seen(scene) if cell(o) == REGIONS[match[1]]] == [(match[2], match[3])]
    if match := re.fullmatch(r"the (\w+) is (at the .+|on the .+|in the .+)", said):
        return [cell(o) for o in seen(scene, match[1])] == [REGIONS[match[2]]]
    match = re.fullmatch(r"the (\w+) is (\w+)", said)
    return [o.colour for o in seen(scene, match[1])] == [match[2]]


def is_true(scene, question):  # noqa: PLR0911 (one answer per kind)
    """Whether an answer holds, from the objects alone."""
    text, answer = question.text, question.answer
    match question.kind:
        case "existence":
            name = class_in(text)
            return name == question.subject and (
                bool(seen(scene, name)) if answer == "Yes" else all(o.name != name for o in scene.objects)
            )
        case "colour":
            return [o.colour for o in seen(scene, class_in(text))] == [answer]
        case "where":
            return [cell(o) for o in seen(scene, class_in(text))] == [REGIONS[answer]]
        case "count":
            return len(seen(scene, class_in(text))) == WORDS.index(answer)
        case "place":
            return answer.split()[-1] == scene.place and answer.split()[0] == ("an" if scene.place == "office" else "a")
        case "at":
            where = REGIONS[text.removeprefix("What is ").removesuffix("?")]
            return [[o.colour, o.name] for o in seen(scene) if cell(o) == where] == [answer.split()[1:]]
        case "order":
            left_to_right = [o.name for o in sorted(seen(scene), key=lambda o: o.centre[0])]
            return [w for w in re.findall(r"\w+", answer) if w in CLASSES] == left_to_right
        case "steps":
            return question.answer == " ".join(question.steps) and all(true_step(scene, s) for s in question.steps)
    return False


@pytest.mark.parametrize("kind", KINDS)
def test_drawn_answers_are_true(kind):
    generator, n = np.random.default_rng(0), 0
    for scene in scenes("val", 60):
        question = draw_question(generator, view(scene.place, scene.objects), kind)
        if question is not None:
            assert is_true(scene, question), (scene, question)
            n += 1
    assert n > 30


def test_the_check_itself_finds_wrong_answers():
    first, second = scenes("val", 2)
    wrong = [q for q in second.questions if q.kind != "existence" and not is_true(first, q)]
    assert wrong


def test_questions_of_a_scene_are_true_and_balanced():
    kinds = set()
    for scene in scenes("test", 40):
        assert all(is_true(scene, question) for question in scene.questions)
        kinds |= {question.kind for question in scene.questions}
        for probe in PROBES:
            answers = [q.answer for q in scene.questions if q.probe == probe]
            assert answers.count("Yes") == answers.count("No")
    assert kinds == set(KINDS)


def test_adversarial_negatives_are_more_expected_than_random_ones():
    def expected(probe):
        asked = [(s, q) for s in scenes("test", 80) for q in s.questions if q.probe == probe and q.answer == "No"]
        return np.mean([PLACES[scene.place].get(question.subject, 0) for scene, question in asked])

    assert expected("adversarial") > 2 * expected("random")


def test_other_words_keep_the_subject():
    generator = np.random.default_rng(0)
    texts = set()
    for scene in scenes("val", 15):
        for question in scene.questions:
            text = reword(generator, question)
            texts.add(text != question.text)
            if question.subject and question.kind != "at":
                assert class_in(text) == class_in(question.text)
    assert texts == {True, False}
