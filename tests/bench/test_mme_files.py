"""The official result files of MME, there and back."""

import pytest

from interp.bench.base import Sample, compute_scores
from interp.bench.mme import Mme
from interp.bench.mme_files import read_results, write_results


def two(image, task="count"):
    return [Sample(f"{task}/{image}/{a}", f"{a}?", image, {"answer": a}, task, image) for a in ("yes", "no")]


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
    with pytest.raises(ValueError, match="has 1 lines: two per image were expected"):
        read_results(path)
    with pytest.raises(ValueError, match="count, image a: two questions per image were expected, got 1"):
        write_results(tmp_path, [(two("a")[0], "yes")])
    with pytest.raises(FileNotFoundError, match="no file"):
        read_results(tmp_path / "none.txt")
