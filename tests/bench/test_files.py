"""Samples and images in files: what is read, and what is reported."""

import json

import pytest
from PIL import Image

from interp.bench._files import LoadedSamples, load_samples, open_image, read_records, require_samples
from interp.bench.base import Sample


def make(path, record) -> Sample:
    if record["text"] == "bad":
        raise ValueError("a bad text")
    return Sample(str(record["id"]), record["text"])


@pytest.mark.parametrize("indent", [None, 1])
def test_lines_and_arrays_are_the_same_records(tmp_path, indent):
    records = [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}]
    (tmp_path / "a.json").write_text(json.dumps(records, indent=indent), encoding="utf-8")
    (tmp_path / "b.json").write_text("\n\n".join(map(json.dumps, records)), encoding="utf-8-sig")
    assert [r for _, r in read_records(tmp_path / "a.json")] == records
    assert [r for _, r in read_records(tmp_path / "b.json")] == records
    assert [where for where, _ in read_records(tmp_path / "b.json")] == [
        f"{tmp_path / 'b.json'}, line 1",
        f"{tmp_path / 'b.json'}, line 3",
    ]


def test_every_record_that_cannot_be_used_is_reported_with_its_line(tmp_path):
    lines = ['{"id": 1, "text": "a"}', "{", '{"id": 2}', "[1]", '{"id": 1, "text": "b"}', '{"id": 3, "text": "bad"}']
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    loaded = load_samples([str(path)], make, ("id", "text"))
    assert [s.id for s in loaded.samples] == ["1"]
    expected = (
        "not JSON",
        "text is missing",
        "an object with id, text was expected",
        "the id '1' is taken",
        "a bad text",
    )
    for number, (problem, words) in enumerate(zip(loaded.problems, expected, strict=True), 2):
        assert problem.startswith(f"{path}, line {number}: ")
        assert words in problem
    with pytest.warns(UserWarning, match=r"left out \(strict_files=True refuses\)"):
        assert require_samples(loaded, strict=False) == loaded.samples
    with pytest.raises(ValueError, match="data that cannot be used"):
        require_samples(loaded, strict=True)
    with pytest.raises(ValueError, match="the files hold no records"):
        require_samples(LoadedSamples(), strict=False)


def test_a_missing_image_or_folder_is_named(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "cat.png")
    assert open_image(tmp_path, "cat.png").size == (3, 2)
    with pytest.raises(FileNotFoundError, match=r"no image cut.png in .*did you mean cat.png\?\); it holds 1 files"):
        open_image(tmp_path, "cut.png")
    with pytest.raises(
        FileNotFoundError, match="no folder of images was given: set images= to the folder that contains"
    ):
        open_image("", "cat.png")
