import pytest

from interp.report.labels import LABELS, labels, spans
from interp.world import scenes

QUESTION = "Describe the image."


@pytest.fixture
def scene():
    return scenes("test", 4)[-1]  # a table, books, a chair and a cup


def test_tokens_get_the_label_of_the_object_they_belong_to(scene) -> None:
    words = ("A", " ch", "air", " and", " a", " dog", ".", "</s>")
    assert "chair" in scene.present
    assert "dog" not in scene.present
    named = labels(words, "A chair and a dog.", QUESTION, scene)
    assert named == ("none", "there", "there", "none", "none", "invented", "none", "none")
    assert set(named) <= set(LABELS)


def test_an_answer_is_labelled_by_the_truth(scene) -> None:
    for question in [q for q in scene.questions if q.kind == "existence"]:
        other = "No" if question.answer == "Yes" else "Yes"
        assert labels((question.answer, ".", "</s>"), f"{question.answer}.", question.text, scene)[0] == "there"
        assert labels((other, ",", "really"), f" {other}, really", question.text, scene)[0] == "invented"
    assert labels(("Yes",), "Yes", "Do you like it?", scene) == ("none",)


def test_nothing_is_known_of_other_images() -> None:
    assert labels(("A", "dog"), "A dog", QUESTION, None) == ("unknown", "unknown")


def test_spans_follow_the_text_and_leave_out_what_is_not_written() -> None:
    assert spans(("a", " b", "</s>", "", "a"), "a b a") == ((0, 1), (2, 3), (3, 3), (3, 3), (4, 5))
