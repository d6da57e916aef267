import numpy as np
import pytest
from PIL import Image

from interp.bench.base import Sample, compute_scores
from interp.bench.mme import _TASKS, Mme


def two(image, task="count"):
    return [Sample(f"{task}/{image}/{a}", f"{a}?", image, {"answer": a}, task, image) for a in ("yes", "no")]


def score(bench, samples, replies):
    return compute_scores(bench, [(s, bench.read(r, s)) for s, r in zip(samples, replies, strict=True)])


def test_scores_by_hand():
    samples = [*two("a"), *two("b"), *two("c"), *two("d", "color")]
    replies = ["Yes", "No.", "yes", "Yes it is", "It is", "nothing", "YES", "no"]
    got = score(Mme(), samples, replies)
    # count: right, right | right, wrong | unread, right (not starts "noth"): 4 of 6, one image of three.
    expected = {"accuracy": 4 / 6, "accuracy_plus": 1 / 3, "score": 100.0, "invalid": 2 / 6}
    assert got["count"] == pytest.approx(expected)
    assert got["color"] == pytest.approx({"accuracy": 1, "accuracy_plus": 1, "score": 200, "invalid": 0})
    assert got["total"]["score"] == pytest.approx(300)
    assert got["total"]["accuracy"] == pytest.approx(5 / 6)
    assert all(np.isnan(got["total"][n]) for n in ("hallucination", "perception", "cognition"))


def test_the_sums_over_all_fourteen_tasks():
    samples = [s for t in _TASKS for s in two("a", t)]
    total = score(Mme(), samples, ["yes", "no"] * 14)["total"]
    assert (total["hallucination"], total["perception"], total["cognition"]) == (800, 2000, 800)


def test_sums_are_made_for_every_draw_at_once():
    counts = {n: np.array([2.0, 4.0]) for n in ("questions", "right", "images", "both", "invalid")}
    part = Mme().scores(counts)
    assert Mme().total({"existence": part})["score"].tolist() == [200, 200]
    assert Mme().total(dict.fromkeys(("existence", "count", "position", "color"), part))["hallucination"].tolist() == [
        800,
        800,
    ]


@pytest.fixture
def official(tmp_path):
    """Two tasks in the official layouts, images beside the texts and apart from them."""
    for task, pictures, texts in (("count", "", ""), ("posters", "images", "questions_answers_YN")):
        for name in ("0001", "0002"):
            (tmp_path / task / pictures).mkdir(parents=True, exist_ok=True)
            (tmp_path / task / texts).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (3, 2)).save(tmp_path / task / pictures / f"{name}.png")
            text = "Is there one? Please answer yes or no.\tYes\nAre there two?\tNo\n"
            (tmp_path / task / texts / f"{name}.txt").write_text(text, encoding="utf-8")
    return tmp_path


def test_the_official_folder_is_read(official):
    bench = Mme(data=str(official))
    samples = bench.samples()
    assert [s.id for s in samples[:2]] == ["count/0001/1", "count/0001/2"]
    assert len(samples) == 8
    assert {s.part for s in samples} == {"count", "posters"}
    assert samples[0].question == "Is there one? Please answer yes or no."
    assert all(bench.image(s).size == (3, 2) for s in samples)
    assert not bench.problems()


def test_what_is_wrong_in_the_folder_is_named(official, tmp_path):
    (official / "count" / "0001.txt").write_text("Is there one? Yes\nAre there two?\tNo\n", encoding="utf-8")
    (official / "count" / "0002.png").rename(official / "count" / "0003.png")
    bench = Mme(data=str(official), tasks=("count",))
    with pytest.warns(
        UserWarning, match="0001.txt, line 1: a question, a tab and Yes or No were expected, got 'Is there one"
    ):
        samples = bench.samples()
    assert len(samples) == 3
    with pytest.raises(ValueError, match="data that cannot be used"):
        Mme(data=str(official), tasks=("count",), strict_files=True).samples()
    with pytest.raises(FileNotFoundError, match=r"no image 0002.jpg in .*did you mean"):
        bench.image(samples[1])
    with pytest.raises(FileNotFoundError, match=r"no folder .*OCR"):
        Mme(data=str(official), tasks=("OCR",)).samples()
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        FileNotFoundError,
        match=r"no task of MME in .*, which contains nothing; the folders of the tasks are named existence, count",
    ):
        Mme(data=str(tmp_path / "empty")).samples()
    with pytest.raises(ValueError, match=r"no task 'colour' \(did you mean color\?\)"):
        Mme(tasks=("colour",))
