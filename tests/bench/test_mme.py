import numpy as np
import pytest
from PIL import Image

from interp.bench.base import Sample, build_benchmark, compute_scores
from interp.bench.mme import _TASKS, Mme
from interp.bench.mme_files import read_results, write_results
from interp.world import scenes
from interp.world.questions import view
from interp.world.text import NUMBERS, coloured, region, with_article


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


def test_questions_about_scenes_come_in_pairs_and_are_true():
    bench = build_benchmark("mme", n=25, seed=2)
    about = scenes("test", 25, 2)
    samples = bench.samples()
    assert list(dict.fromkeys(s.part for s in samples)) == ["existence", "count", "position", "color"]
    for yes, no in zip(samples[::2], samples[1::2], strict=True):
        assert (yes.truth["answer"], no.truth["answer"], yes.group, yes.part) == ("yes", "no", no.group, no.part)
        assert yes.question != no.question
        seen = view(about[int(yes.image)].place, about[int(yes.image)].objects)
        true = {
            "existence": [f"Is there {with_article(g.name)} in the image?" for g in seen.groups],
            "count": [
                f"Are there {NUMBERS[g.count]} " if g.count > 1 else f"Is there one {g.name} in the image?"
                for g in seen.groups
            ],
            "position": [f"Is there {with_article(o.name)} {region(o)}?" for o in seen.singles],
            "color": [f"Is there {coloured(o)} in the image?" for o in seen.singles],
        }[yes.part]
        assert any(yes.question.startswith(t) for t in true)
        assert not any(no.question.startswith(t) for t in true if yes.part != "count")
    np.testing.assert_array_equal(np.asarray(bench.image(samples[0])), about[0].pixels)
    assert {s.part for s in build_benchmark("mme", n=5, tasks=("color",)).samples()} == {"color"}


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
        FileNotFoundError, match=r"no task of MME in .*, which holds nothing; the folders are called existence, count"
    ):
        Mme(data=str(tmp_path / "empty")).samples()
    with pytest.raises(ValueError, match=r"no task 'colour' \(did you mean color\?\)"):
        Mme(tasks=("colour",))


def test_result_files_go_out_and_come_back(tmp_path):
    samples = [*two("a.jpg"), *two("b.jpg"), *two("a.jpg", "color")]
    replies = ["Yes,\tit\nis", "No", "  yes", "no", "", "no"]
    paths = write_results(tmp_path, zip(samples, replies, strict=True))
    assert [p.name for p in paths] == ["count.txt", "color.txt"]
    lines = paths[0].read_text(encoding="utf-8").splitlines()
    assert lines[0] == "a.jpg\tyes?\tYes\tYes, it is"
    back = [one for p in paths for one in read_results(p)]
    direct, again = (
        compute_scores(Mme(), [(s, Mme().read(r, s)) for s, r in told])
        for told in (zip(samples, replies, strict=True), back)
    )
    assert direct["count"] == again["count"]
    assert direct["color"] == again["color"]
    assert again["count"]["accuracy"] == 3 / 4  # "  ye" is not yes


def test_lines_of_result_files_that_are_wrong(tmp_path):
    path = tmp_path / "count.txt"
    path.write_text("a.jpg\tq\tYes\tyes\na.jpg q no\nb.jpg\tq\tYes\tyes\nb.jpg\tq\tNo\tno\n", encoding="utf-8")
    got = compute_scores(Mme(), [(s, Mme().read(r, s)) for s, r in read_results(path)])["count"]
    assert got == pytest.approx({"accuracy": 1, "accuracy_plus": 0.5, "score": 150, "invalid": 0})
    path.write_text("a.jpg\tq\tYes\tyes\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has 1 lines: two for every image were expected"):
        read_results(path)
    with pytest.raises(ValueError, match="count, image a: two questions an image were expected, got 1"):
        write_results(tmp_path, [(two("a")[0], "yes")])
    with pytest.raises(FileNotFoundError, match="no file"):
        read_results(tmp_path / "none.txt")
