"""The causal study of sinks finds what was planted."""

import pytest

from interp.experiments.sinks import Task, sink_ablation, sink_study
from interp.taps.audit import NothingChanged


def test_the_sink_study_finds_the_planted_sink_and_what_breaks(planted):
    words = ("cafebabe", "deadbeefa", "fadedcab")
    prompts = [planted.model.prepare(text=w) for w in words]
    letters = "abcdefghijklmnop"

    def score(index, reply):
        return {"quality": float(reply.text[0] == letters[letters.index(words[index][-1]) + 1])}

    with pytest.warns(NothingChanged):
        study = sink_study(planted.model, [Task("next letter", prompts, score, 3)], batch_size=2, progress=False)
    table = study.table().set_index(["tokens", "how"])["quality"]
    assert table["nothing", "none"] == table["sink", "zero"] == table["other", "mask"] == 1
    assert table["sink", "mask"] < 0.5
    assert len(study.frame()) == 3 * (1 + 2 * 3)


def test_no_sink_is_said_with_the_most_attended_token(planted):
    task = Task("none", [planted.model.prepare(text="cafe")], lambda i, r: {}, 2)
    from interp.analysis.sinks import Sinks

    with pytest.raises(ValueError, match=r"no attention sink in this prompt: the most attended token is '<s>'"):
        sink_study(planted.model, [task], detector=Sinks(epsilon=1.0), progress=False)
    with pytest.raises(ValueError, match="how is one of mask, zero, mean, got 'drop'"):
        sink_ablation("drop")
