import pytest

import interp
from interp.data.prompt import Reply
from interp.report.labels import TOKEN_LABELS, label_tokens
from interp.world import scenes


@pytest.fixture
def scene():
    return scenes("test", 4)[-1]  # a table, books, a chair and a cup


def named(scene, text, question="Describe the image.", known=True):
    model = interp.load("scenes")
    prompt = model.prepare(scene.image, question)
    ids = prompt.with_response(text).response_ids
    words = tuple(model.tokenizer.decode([i]) for i in ids)
    reply = Reply(text, words, ids, (0.0,) * len(ids), "end", prompt)
    return dict(zip(words, label_tokens(reply, model.tokenizer, scene if known else None), strict=True))


def test_tokens_get_the_label_of_the_object_they_belong_to(scene) -> None:
    assert "chair" in scene.present
    assert "dog" not in scene.present
    found = named(scene, "A chair and a dog.")
    assert (found["chair"], found["dog"], found["and"], found["."]) == ("there", "invented", "none", "none")
    assert set(found.values()) <= set(TOKEN_LABELS)


def test_an_answer_is_labelled_by_the_truth(scene) -> None:
    questions = [q for q in scene.questions if q.kind == "existence"]
    assert {q.answer for q in questions} == {"Yes", "No"}
    for question in questions:
        other = "No" if question.answer == "Yes" else "Yes"
        assert named(scene, f"{question.answer}.", question.text)[question.answer] == "there"
        assert named(scene, f"{other}.", question.text)[other] == "invented"
    assert set(named(scene, "Yes.", "Do you like it?").values()) == {"none"}


def test_nothing_is_known_of_other_images(scene) -> None:
    assert set(named(scene, "A dog.", known=False).values()) == {"unknown"}
