"""SPEAR's three tasks on the drawn world."""

import pytest

import interp
from interp.data.prompt import Reply
from interp.experiments.tasks import drawn_tasks
from interp.world import scenes


@pytest.fixture(scope="module")
def tasks():
    about = scenes("test", 6)
    return about, drawn_tasks(interp.load("scenes"), about)


def score(task, index: int, text: str) -> dict[str, float]:
    return dict(task.score(index, Reply(text, (), (), (), "end", task.prompts[index])))


def test_a_caption_is_judged_by_what_is_there(tasks) -> None:
    about, (caption, _, _) = tasks
    everything = " and ".join(f"a {name}" for name in about[0].visible)
    assert score(caption, 0, everything) == {"quality": 1.0, "hallucinated": 0.0}
    absent = next(n for n in ("boat", "cat", "dog", "lamp", "clock") if n not in about[0].present)
    assert score(caption, 0, f"a {absent}") == {"quality": 0.0, "hallucinated": 1.0}


def test_an_absent_object_is_denied(tasks) -> None:
    _, (_, absent, _) = tasks
    assert [score(absent, 0, t) for t in ("No.", "Yes.", "Perhaps")] == [
        {"quality": 1.0, "hallucinated": 0.0},
        {"quality": 0.0, "hallucinated": 1.0},
        {"quality": 0.0, "hallucinated": 0.0},
    ]


def test_steps_count_one_by_one(tasks) -> None:
    about, (_, _, stepwise) = tasks
    asked = [(s, q) for s in about for q in s.questions if q.kind == "steps"]
    assert len(stepwise.prompts) == len({id(s) for s, _ in asked})
    steps = asked[0][1].steps
    assert score(stepwise, 0, " ".join(steps)) == {"quality": 1.0, "hallucinated": 0.0}
    assert score(stepwise, 0, steps[0])["quality"] == pytest.approx(1 / len(steps))
