"""Replies under other batch sizes and attention kernels."""

import json
from typing import Any

from interp.runs.directory import Run
from interp.runs.stability import stability


def test_stability_counts_what_flips(model_of, letters, tmp_path, monkeypatch) -> None:
    settings: dict[str, Any] = {"folder": tmp_path, "batch_size": 4, "progress": False, "min_new_tokens": 5}
    found = stability(model_of("llava"), letters(n=8), "spear:enhance=3", **settings)
    assert list(found.frame["attention"]) == ["sdpa", "sdpa", "eager"]
    assert list(found.frame["batch_size"]) == [4, 1, 4]
    assert list(found.frame["n"]) == [8, 8, 8]
    assert list(found.frame["replies"]) == [0, 0, 0]
    assert found.frame["logprob"][0] == 0
    assert found.frame["logprob"].max() < 1e-4
    assert "other answers" in str(found)
    assert found.flat()["method"].unique() == ["spear"]
    single = next(p for p in tmp_path.iterdir() if Run.open(p).batch_size == 1)
    rows = [json.loads(line) for line in (single / "rows.jsonl").read_bytes().splitlines()]
    rows[0] |= {"ids": [0, *rows[0]["ids"][1:]], "reply": "e" + rows[0]["reply"]}
    rows[1] |= {"ids": [*rows[1]["ids"][:-1], 0]}
    (single / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    again = stability(model_of("llava"), letters(n=8), "spear:enhance=3", **settings)
    assert list(again.frame["replies"]) == [0, 2, 0]
    assert list(again.frame["answers"]) == [0, 1, 0]
