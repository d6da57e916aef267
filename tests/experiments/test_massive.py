import pytest

from interp.analysis.sinks import Sinks
from interp.experiments.massive import massive_study
from interp.taps.audit import NothingChanged


def answered(model, text, reply):
    return model.prepare(text=text, response=reply)


def test_the_planted_massive_activation_matters_as_zero_and_not_as_its_mean(planted):
    prompts = [answered(planted.model, "cafebabe", "fghi"), answered(planted.model, "deadbeef", "ghij")]
    with pytest.warns(NothingChanged):  # it is the same in every prompt, and so equal to its mean
        study = massive_study(planted.model, prompts, progress=False)
    assert (study.position, study.dim, study.layer) == (planted.position, planted.dims[0], 0)
    loss = study.table().set_index("how")["value"]
    assert loss["value"] == pytest.approx(loss["baseline"], abs=1e-4)
    assert loss["zero"] > loss["baseline"] + 1
    assert loss["mean"] > loss["baseline"] + 1
    assert len(study.frame()) == 8


def test_without_a_massive_activation_the_largest_is_named(planted):
    prompts = [answered(planted.model, "cafebabe", "fghi")]
    with pytest.raises(ValueError, match=r"is massive in all 1 prompts .* the largest activation is 3072"):
        massive_study(planted.model, prompts, detector=Sinks(above=1e6), progress=False)
    with pytest.raises(ValueError, match="at least one prompt"):
        massive_study(planted.model, [], progress=False)
