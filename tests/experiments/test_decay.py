"""Saliency decay equals separate passes under the same intervention."""

import pytest
from torch.testing import assert_close

import interp
from interp.experiments.decay import saliency_decay
from interp.families.base import family
from interp.interventions.attention import ScalePattern


def answered(model, text, reply):
    return model.prepare(text=text, response=reply)


def test_decay_scales_the_rows_of_salient_tokens_only():
    module, processor = family("llama").tiny()
    model = interp.load(module, processor=processor)
    prompt = answered(model, "What is it?", "a red chair")
    found = saliency_decay(model, [prompt], ratios=(1.0, 0.2), threshold=0.0, progress=False)
    table = found.frame()
    rows = sorted(int(p) - 1 for p in table.position.unique())
    assert set(rows) <= set(prompt.layout.positions(interp.Segment.RESPONSE))
    change = ScalePattern(interp.Segment.RESPONSE, 0.2, queries=interp.tokens(rows))
    for ratio, interventions in ((1.0, ()), (0.2, (change,))):
        logits = interp.capture(model, prompt, want={"logits"}, interventions=interventions).logits.softmax(-1)
        for line in table[table.ratio == ratio].itertuples():
            expected = logits[line.position - 1, prompt.ids[line.position]]
            assert_close(logits.new_tensor(line.probability), expected)
    assert table.groupby("ratio").probability.mean().diff().abs().max() > 0


def test_no_salient_token_gives_an_empty_table_and_bad_ratios_are_refused():
    module, processor = family("llama").tiny()
    model = interp.load(module, processor=processor)
    prompt = answered(model, "What is it?", "a red chair")
    assert saliency_decay(model, [prompt], threshold=1.5, progress=False).table().empty
    with pytest.raises(ValueError, match=r"ratios in \[0, 1\]; got 1 prompts and \[2.0\]"):
        saliency_decay(model, [prompt], ratios=[2.0], progress=False)
