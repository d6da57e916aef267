"""`interp measure`."""

import json

import pytest
import torch

import interp
from interp.analysis.budget import Budget, SegmentShares
from interp.analysis.sinks import Sinks, SinkTable
from interp.world import scenes

ASK = ("scene:test/3", "Describe the image.")


def test_tables_files_and_pictures(interp_, tmp_path) -> None:
    done = interp_("measure", *ASK, "sinks", "budget", "--response", "A park with a dog.", "--out", tmp_path)
    assert done.code == 0, done.err
    model = interp.load("scenes")
    prompt = model.prepare(scenes("test", 4)[3].image, ASK[1]).with_response("A park with a dog.")
    sinks, budget = interp.measure(model, prompt, Sinks(), Budget())
    torch.testing.assert_close(SegmentShares.load(tmp_path / "budget.safetensors").share, budget.share)
    torch.testing.assert_close(SinkTable.load(tmp_path / "sinks.safetensors").received, sinks.received)
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"budget.safetensors", "budget.png", "sinks.safetensors", "sinks_massive.png", "sinks_received.png"}
    for word in (
        "sinks",
        "budget",
        "SYSTEM",
        "IMAGE",
        f"{float(budget.share[0].mean(0)[1]):.3f}",
        str(tmp_path / "budget.png"),
    ):
        assert word in done.out


def test_json_holds_the_rows(interp_) -> None:
    said = json.loads(interp_("measure", *ASK, "budget", "--json").out)
    rows = said["budget"]["rows"]
    assert [row["layer"] for row in rows] == list(range(len(rows)))
    for row in rows:
        assert sum(row[s] for s in ("SYSTEM", "IMAGE", "USER", "RESPONSE")) == pytest.approx(1, abs=1e-4)


def test_a_change_is_measured_under(interp_, tmp_path) -> None:
    path = tmp_path / "changes.json"
    path.write_text(
        json.dumps(
            [{"kind": "MaskAttention", "keys": {"kind": "segment", "of": ["IMAGE"]}, "queries": {"kind": "emitting"}}]
        )
    )
    said = json.loads(interp_("measure", *ASK, "budget", "--interventions", path, "--json").out)
    assert all(row["IMAGE"] == pytest.approx(0, abs=1e-6) for row in said["budget"]["rows"])


def test_sinks_are_marked_for_those_that_need_them(interp_) -> None:
    from interp.analysis.budget import SinkBudget

    model = interp.load("scenes")
    prompt = model.prepare(scenes("test", 4)[3].image, ASK[1])
    found = interp.measure(model, prompt, Sinks())
    done = interp_("measure", *ASK, "sink_budget", "--mark-sinks", "--json")
    if not found.positions:
        assert "no attention sink by the default bounds" in done.err
        return
    want = interp.measure(model, prompt.marked(sink=found.positions), SinkBudget())
    rows = json.loads(done.out)["sink_budget"]["rows"]
    assert len(rows) == len(want.layers)


def test_the_list_names_every_analysis_with_what_it_finds(interp_) -> None:
    listed = json.loads(interp_("measure", "--list", "--json").out)
    assert {"sinks", "budget"} <= set(listed)
    assert all(listed.values())
    assert "sinks" in interp_("measure", "--list").out


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ((), 2, ("give IMAGE, QUESTION and at least one ANALYSIS", "--list")),
        ((*ASK,), 2, ("at least one ANALYSIS",)),
        ((*ASK, "snks"), 2, ("no analysis 'snks'", "did you mean sinks?")),
        ((*ASK, "sinks", "--response", "A", "--generate"), 2, ("not both",)),
        (("none.png", "Hi", "sinks"), 1, ("no image file",)),
        (("none", "Hi", "saliency", "--target", "0"), 1, ("no reply",)),
        ((*ASK, "saliency"), 2, ("saliency needs gradients", "--target N")),
        ((*ASK, "sink_budget"), 1, ("no tokens are marked 'sink'",)),
    ],
)
def test_wrong_input(refused, given, code, words) -> None:
    refused(("measure", *given), code, *words)
