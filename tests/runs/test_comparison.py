"""Tables of finished runs, read in this way and that, without the model."""

import json
import math

import numpy as np
import pytest

import interp
from interp.bench.base import compute_scores
from interp.methods.spear import Spear
from interp.runs.comparison import compare, reading_benchmark, rescore
from interp.runs.directory import Run
from interp.runs.execution import execute


def replies(run: Run) -> dict[str, str]:
    return {r.id: r.reply for r in run.rows()}


def letter_of(run: Run) -> str:
    """A letter that some replies hold and others do not."""
    texts = list(replies(run).values())
    return next(c for c in sorted(set("".join(texts))) if 0 < sum(c in t for t in texts) < len(texts))


def test_scores_differences_and_tests_by_hand(two, letters) -> None:
    letter = letter_of(two[0])
    benchmark = letters(n=12, letter=letter)
    table = compare(two, benchmark=benchmark)
    held = [{i: letter in t for i, t in replies(r).items()} for r in two]
    part = {s.id: s.part for s in benchmark.samples()}

    def share(found: dict[str, bool]) -> float:
        each = [[v for i, v in found.items() if part[i] == p] for p in ("left", "right")]
        return sum(sum(e) / len(e) for e in each) / 2

    assert table.score("greedy", "held") == pytest.approx(share(held[0]))
    assert table.score("spear", "held") == pytest.approx(share(held[1]))
    assert table.score("spear", "held_difference") == pytest.approx(share(held[1]) - share(held[0]))
    assert table.score("spear", "held_better") == sum(held[1][i] and not held[0][i] for i in held[0])
    assert table.score("spear", "held_worse") == sum(held[0][i] and not held[1][i] for i in held[0])
    assert table.score("spear", "held_q") == table.score("spear", "held_p")  # one method: nothing to correct for
    assert math.isnan(table.score("greedy", "held_difference"))
    assert table.outcomes == {"held": "mcnemar", "length": "wilcoxon"}
    for name in ("held", "length"):
        assert table.score("spear", f"{name}_low") <= table.score("spear", name) <= table.score("spear", f"{name}_high")


def test_costs_are_those_of_the_batches(two, letters) -> None:
    table = compare(two, benchmark=letters(n=12))
    costs = [r.costs() for r in two]
    rates = [sum(c.tokens for c in each) / sum(c.seconds for c in each) for each in costs]
    assert table.score("spear", "seconds") == pytest.approx(sum(c.seconds for c in costs[1]) / 12)
    assert table.score("spear", "speed") == pytest.approx(rates[1] / rates[0])
    assert table.score("greedy", "speed") == 1
    assert table.score("spear", "memory") == max(c.memory for c in costs[1])


def test_differences_are_over_the_samples_that_both_answered(asked, letters, tmp_path) -> None:
    what = asked(letters(n=12))
    runs = [execute(what, m, tmp_path) for m in (None, Spear(enhance=4.0))]
    lines = (runs[1].path / "rows.jsonl").read_bytes().splitlines(keepends=True)
    gone = json.loads(lines[3]) | {"error": "ValueError: lost", "reply": "", "ids": [], "tokens": [], "logprobs": []}
    lines[3] = json.dumps(gone).encode() + b"\n"
    (runs[1].path / "rows.jsonl").write_bytes(b"".join(lines))
    table = compare(runs, benchmark=letters(n=12))
    read = [[(r.sample, what.benchmark.read(r.reply, r.sample)) for r in run.rows() if r.id != "q3"] for run in runs]
    expected = [compute_scores(what.benchmark, pairs)["total"]["length"] for pairs in read]
    assert table.score("spear", "length_difference") == pytest.approx(expected[1] - expected[0])
    assert table.score("spear", "failed") == 1
    assert table.score("greedy", "failed") == 0


def test_reading_in_another_way_needs_no_model(two, letters, monkeypatch) -> None:
    monkeypatch.setattr("torch.nn.Module.__call__", lambda *_, **__: pytest.fail("the model ran"))
    letter = letter_of(two[0])
    expected = np.mean([np.mean([letter in t for i, t in replies(two[0]).items() if side(i) == s]) for s in (0, 1)])
    assert rescore(two[0], benchmark=letters(n=12), letter=letter)["total"]["held"] == pytest.approx(expected)
    compare(two, benchmark=letters(n=12), reading={"letter": "#"})
    saved = two[0].scores()
    assert set(saved) == {f"letter={letter}", "letter=#"}
    assert saved[f"letter={letter}"]["scores"]["total"]["held"] == pytest.approx(expected)
    assert compare(two, benchmark=letters(n=12), reading={"letter": "#"}).about["reading"] == "letter=#"


def side(name: str) -> int:
    return int(name[1:]) % 4 // 2


def test_a_setting_that_does_more_than_reading_is_refused(two, letters) -> None:
    with pytest.raises(
        ValueError, match="'shade' changes more than how letters reads a reply; settings that change only that: letter"
    ):
        rescore(two[0], benchmark=letters(n=12), shade=3)


def test_a_benchmark_is_known_again_by_its_name(tmp_path) -> None:
    table = interp.run("scenes", "pope:n=2,longest=2", limit=4, folder=tmp_path, progress=False)
    run = Run.open(table.runs["greedy"])
    assert reading_benchmark(run, None, {"parser": "vcd"}) == interp.bench.base.parse_benchmark(
        "pope:n=2,longest=2,parser=vcd"
    )
    assert rescore(run, parser="vcd")["total"]["accuracy"] >= 0


def test_a_benchmark_of_ones_own_must_be_given(two) -> None:
    with pytest.raises(ValueError, match=r"no benchmark 'letters'.*compare\(runs, benchmark=\.\.\.\)"):
        compare(two)


def test_runs_that_are_no_pairs_are_refused(two, asked, letters, tmp_path) -> None:
    other = execute(asked(letters(n=12, shade=1)), None, tmp_path)
    with pytest.raises(ValueError, match=r"cannot be compared in pairs: they differ in data"):
        compare([two[0], other], benchmark=letters(n=12))
    with pytest.raises(ValueError, match="no run to compare"):
        compare([])


def test_an_unfinished_run_is_refused(two, letters) -> None:
    rows = (two[1].path / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (two[1].path / "rows.jsonl").write_bytes(b"".join(rows[:6]))
    assert not two[1].complete
    with pytest.raises(ValueError, match="is not finished: 6 of 12 samples"):
        compare(two, benchmark=letters(n=12))
