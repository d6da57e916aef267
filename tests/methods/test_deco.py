import pytest
import torch

from interp.data.tokens import EMITTING
from interp.methods.deco import Deco
from interp.methods.dola import EXCLUDED
from interp.passes.capture import capture


def test_it_conforms(tiny, conforms):
    conforms(tiny, Deco(2.0, depths=(0, 1)), Deco(0.0, top_p=1.0, top_k=None, depths=(0, 1)))


def test_bfloat16_does_not_turn_it_off(model_of, answered, under):
    model = model_of("llava", torch.bfloat16)
    prompt = answered(model)
    assert not torch.equal(under(model, prompt, Deco()), under(model, prompt))


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "internvl", "instructblip", "qwen2"])
def test_it_is_the_surest_earlier_layer_added_row_by_row(model_of, answered, under, kind):
    model = model_of(kind)
    prompt = answered(model)
    kept = capture(model, prompt, want={"resid_pre", "logits"})
    expected = kept.logits.clone()
    norm, head = model.decoder.get_submodule(model.family.final_norm), model.module.get_output_embeddings().weight
    for row in prompt.layout.positions(EMITTING):
        likely = kept.logits[row].softmax(-1).sort(descending=True)
        few = min(int((likely.values.cumsum(-1) < 0.9).sum()) + 1, 5)
        ids = likely.indices[:few]
        early = {d: norm(kept.resid_pre[d][row]) @ head.T for d in (0, 1)}
        best = max((float(says.softmax(-1)[ids].max()), d) for d, says in early.items())
        expected[row] = EXCLUDED
        expected[row, ids] = (kept.logits[row] + 0.6 * best[0] * early[best[1]])[ids]
    got = under(model, prompt, Deco(top_k=5, depths=(0, 1)))[0]
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_candidates_reach_a_probability_together():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    for top_p, top_k, many in ((0.45, 9, 1), (0.6, 9, 2), (0.9, 9, 3), (0.9, 2, 2), (1.0, None, 4)):
        assert Deco(top_p=top_p, top_k=top_k).candidates(logits).tolist() == [i < many for i in range(4)]


def test_published_depths_are_those_of_32():
    class Deep:
        layers, unembed = 32, None

    assert Deco()._depths(Deep) == tuple(range(20, 29))
    Deep.layers = 8
    assert Deco()._depths(Deep) == (5, 6, 7)


def test_what_it_does_not_fit(model_of):
    assert "depths [9] are not earlier depths of the residual stream: it has 0..1" in Deco(depths=(9,)).refusal(
        model_of("llava")
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -1.0}, "an alpha of at least 0"),
        ({"top_p": 0.0}, "top_p above 0 and up to 1"),
        ({"top_k": 0}, "top_k of at least 1"),
        ({"depths": ()}, "leaves no earlier depth"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Deco(**settings)
