import pytest

from interp.bench.negatives import build_questions, write_questions
from interp.bench.pope import Pope

OBJECTS = {
    "1.jpg": ["cat", "sofa", "lamp"],
    "2.jpg": ["cat", "sofa", "tv"],
    "3.jpg": ["dog", "ball", "tree"],
    "4.jpg": ["dog", "ball", "cat"],
    "5.jpg": ["boat"],
}


def asked(kind, **settings):
    """Return image → (objects asked about that are there, that are not)."""
    found = {}
    for q in build_questions(OBJECTS, kind, **settings):
        name = q["text"].removeprefix("Is there a ").removesuffix(" in the image?")
        found.setdefault(q["image"], ([], []))[q["label"] == "no"].append(name)
    return found


@pytest.mark.parametrize("kind", ["random", "popular", "adversarial"])
def test_every_image_gets_as_many_of_both_answers_each_once(kind):
    found = asked(kind)
    assert list(found) == ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]
    for image, (there, absent) in found.items():
        assert sorted(there) == sorted(OBJECTS[image])
        assert len(set(absent)) == 3
        assert not set(absent) & set(OBJECTS[image])


def test_popular_takes_the_most_common_of_what_is_absent():
    found = asked("popular")
    assert found["3.jpg"][1] == ["cat", "sofa", "boat"]  # in 3 images, in 2, then the alphabet
    assert found["1.jpg"][1] == ["ball", "dog", "boat"]


def test_adversarial_takes_what_goes_with_the_object_that_is_asked_for():
    found = asked("adversarial", per_image=1, seed=0)
    with_it = {
        ("cat", "1.jpg"): "ball",
        ("cat", "2.jpg"): "ball",
        ("cat", "4.jpg"): "sofa",
        ("sofa", "1.jpg"): "tv",
        ("sofa", "2.jpg"): "lamp",
        ("dog", "3.jpg"): "cat",
        ("ball", "3.jpg"): "cat",
        ("ball", "4.jpg"): "tree",
        ("dog", "4.jpg"): "tree",
    }
    seen = 0
    for image, ((there,), (absent,)) in found.items():
        if (there, image) in with_it:
            assert absent == with_it[there, image]
            seen += 1
    assert seen


def test_the_seed_decides_and_the_objects_that_are_there_do_not_depend_on_the_kind():
    assert build_questions(OBJECTS, "random", seed=1) == build_questions(OBJECTS, "random", seed=1)
    assert build_questions(OBJECTS, "random", seed=1) != build_questions(OBJECTS, "random", seed=2)
    positives = [
        [q for q in build_questions(OBJECTS, k, per_image=2) if q["label"] == "yes"] for k in ("random", "popular")
    ]
    assert positives[0] == positives[1]


def test_written_questions_are_an_official_file(tmp_path):
    questions = build_questions(OBJECTS, "popular")
    path = write_questions(tmp_path / "mine_pope_popular.json", questions)
    samples = Pope(data=str(path), strict_files=True).samples()
    assert [(s.question, s.truth["answer"], s.image) for s in samples] == [
        (q["text"], q["label"], q["image"]) for q in questions
    ]


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r"no kind 'populer' \(did you mean popular\?\)"):
        build_questions(OBJECTS, "populer")
    with pytest.raises(ValueError, match="at least 1, got 0"):
        build_questions(OBJECTS, "random", per_image=0)
    with pytest.raises(ValueError, match="no image has 4 objects"):
        build_questions(OBJECTS, "random", per_image=4)
