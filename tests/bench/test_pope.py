import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from interp.bench.base import build_benchmark, compute_scores
from interp.bench.pope import SUFFIXES, Pope, name_part
from interp.world import scenes


def line(i=1, label="yes", image="a.jpg", **more):
    return {"question_id": i, "image": image, "text": "Is there a cat in the image?", "label": label, **more}


@pytest.fixture
def file(tmp_path):
    def write(*lines, name="coco_pope_random.json", indent=None):
        text = (
            json.dumps(lines, indent=indent)
            if indent
            else "\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines)
        )
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


def score(bench, replies):
    samples = bench.samples()
    return compute_scores(bench, [(s, bench.read(r, s)) for s, r in zip(samples, replies, strict=True)])


def test_scores_by_hand(file):
    data = file(*(line(i, label) for i, label in enumerate(["yes"] * 4 + ["no"] * 6)))
    replies = [
        "Yes",
        "yes.",
        "No",
        "I think so",
        "Yes",
        "no",
        "no",
        "no",
        "Not at all",
        "",
    ]  # strict: 2 hits, 1 false yes, 3 right no
    got = score(Pope(data=data), replies)["coco random"]
    expected = {"accuracy": 0.5, "precision": 2 / 3, "recall": 0.5, "f1": 4 / 7, "yes_ratio": 0.3, "invalid": 0.3}
    assert got == pytest.approx(expected)


def test_a_published_reader_turns_invalid_replies_into_yes_and_the_table_still_counts_them(file):
    data = file(line(1), line(2, "no"))
    got = score(Pope(data=data, parser="pope"), ["maybe", "maybe"])["total"]
    assert got == pytest.approx(
        {"accuracy": 0.5, "precision": 0.5, "recall": 1, "f1": 2 / 3, "yes_ratio": 1, "invalid": 1}
    )


def test_a_score_without_cases_is_not_a_number(file):
    got = score(Pope(data=file(line(1, "no"))), ["no"])["total"]
    assert got["accuracy"] == 1
    assert all(np.isnan(got[n]) for n in ("precision", "recall", "f1"))


def test_the_total_is_the_plain_mean_of_the_files(file):
    data = (file(line(1), name="coco_pope_random.json"), file(line(1), line(2), name="coco_pope_popular.json"))
    got = score(Pope(data=data), ["yes", "no", "no"])
    assert (got["coco random"]["accuracy"], got["coco popular"]["accuracy"], got["total"]["accuracy"]) == (1, 0, 0.5)


@pytest.mark.parametrize("indent", [None, 4])
def test_lines_and_arrays_are_the_same_questions(file, indent):
    lines = [line(1), line(2, "No")]
    (one, two) = Pope(data=file(*lines, indent=indent)).samples()
    assert (one.id, one.part, one.group, one.truth) == ("coco random/1", "coco random", "a.jpg", {"answer": "yes"})
    assert two.truth == {"answer": "no"}


def test_parts_are_read_from_names_or_given(file):
    assert name_part("x/aokvqa_pope_adversarial.json") == "aokvqa adversarial"
    (sample,) = Pope(data=file(line()), parts=("mine",)).samples()
    assert sample.part == "mine"
    with pytest.raises(ValueError, match="1 files, 2 parts"):
        Pope(data=file(line()), parts=("a", "b"))


def test_the_worlds_own_questions_are_balanced_and_true():
    bench = build_benchmark("pope", n=12, seed=3)
    about = scenes("test", 12, 3)
    samples = bench.samples()
    assert list(dict.fromkeys(s.part for s in samples)) == ["random", "popular", "adversarial"]
    for s in samples:
        subject = s.id.split("/")[2]
        assert subject in s.question
        scene = about[int(s.image)]
        assert (subject in scene.visible) if s.truth["answer"] == "yes" else (subject not in scene.names)
    assert np.mean([s.truth["answer"] == "yes" for s in samples]) == 0.5
    np.testing.assert_array_equal(np.asarray(bench.image(samples[0])), about[int(samples[0].image)].pixels)


def test_a_suffix_is_a_published_one_or_a_text(file):
    data = file(line())
    question = "Is there a cat in the image?"
    assert Pope(data=data, suffix="clearsight").samples()[0].question == question + SUFFIXES["clearsight"]
    assert Pope(data=data, suffix=" Say yes or no.").samples()[0].question == question + " Say yes or no."
    with pytest.raises(ValueError, match=r"no suffix 'lava' \(did you mean llava\?\)"):
        Pope(suffix="lava")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ('{"question_id": 2, "image', "line 2: not JSON"),
        ('["a"]', r"line 2: an object with question_id, image, text, label was expected, got \[\"a\"\]"),
        (line(2, "maybe"), "line 2: the label is yes or no, got 'maybe'"),
        ({"question_id": 2, "image": "a.jpg", "text": "?"}, "line 2: label is missing"),
        (line(1), "line 2: the id 'coco random/1' is taken: .*line 1 has it already"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_and_left_out_or_refused(file, bad, said):
    data = file(line(1), bad, line(3, "no"))
    with pytest.warns(UserWarning, match=said):
        kept = Pope(data=data).samples()
    assert [s.id for s in kept] == ["coco random/1", "coco random/3"]
    (problem,) = Pope(data=data).problems()
    assert "coco_pope_random.json, line 2" in problem
    with pytest.raises(ValueError, match=said):
        Pope(data=data, strict_files=True).samples()


def test_files_without_a_usable_line_are_refused(file):
    with pytest.raises(ValueError, match=r"cannot be used:(.*\n){6}\.\.\. and 2 more"):
        Pope(data=file(*["x"] * 7)).samples()
    with pytest.raises(ValueError, match="the files hold no records"):
        Pope(data=file("")).samples()
    with pytest.raises(ValueError, match="line 3: not JSON"):
        Pope(data=file("[", "{}", "]]")).samples()


def test_a_missing_file_or_image_says_what_is_near(file, tmp_path):
    data = file(line(image="COCO_val2014_000000000042.jpg"))
    with pytest.raises(FileNotFoundError, match=r"did you mean coco_pope_random.json\?"):
        Pope(data=data.replace("random", "randon")).samples()
    (sample,) = Pope(data=data).samples()
    with pytest.raises(FileNotFoundError, match="no folder of images was given: set images="):
        Pope(data=data).image(sample)
    with pytest.raises(FileNotFoundError, match="no folder nowhere: set images="):
        Pope(data=data, images="nowhere").image(sample)
    Image.new("RGB", (4, 4)).save(tmp_path / "000000000042.jpg")
    with pytest.raises(
        FileNotFoundError, match=r"no image COCO_val2014_000000000042.jpg in .*\(did you mean 000000000042.jpg\?\)"
    ):
        Pope(data=data, images=str(tmp_path)).image(sample)
    Image.new("RGB", (4, 4), "red").save(tmp_path / "COCO_val2014_000000000042.jpg")
    assert Pope(data=data, images=str(tmp_path)).image(sample).size == (4, 4)


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match=r"pope has no setting 'parsr' \(did you mean parser\?\)"):
        build_benchmark("pope", parsr="strict")
    with pytest.raises(ValueError, match="no parser 'none'"):
        build_benchmark("pope", parser="none")
    with pytest.raises(ValueError, match="no split 'dev'"):
        build_benchmark("pope", split="dev").samples()


@pytest.mark.skipif(
    "INTERP_TEST_DATA" not in os.environ, reason="INTERP_TEST_DATA does not name the folder of official files"
)
@pytest.mark.parametrize("name", ["coco_pope_random", "coco_pope_popular", "coco_pope_adversarial", "gqa_pope_random"])
def test_official_files_load(name):
    samples = Pope(data=str(Path(os.environ["INTERP_TEST_DATA"], f"{name}.json")), strict_files=True).samples()
    assert len(samples) == 3000
    assert sum(s.truth["answer"] == "yes" for s in samples) == 1500
    assert len({s.group for s in samples}) == 500
