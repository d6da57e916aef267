"""Saliency decay: the probability of a reply's tokens when their attention to the earlier reply is reduced."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import pandas as pd
import torch
from tqdm import tqdm

from interp.analysis.saliency import ResponseSaliency
from interp.data.prompt import Prompt
from interp.data.tokens import Segment, tokens
from interp.interventions.attention import ScalePattern
from interp.models.model import Model
from interp.passes.capture import capture
from interp.passes.measure import measure

RATIOS = (1.0, 0.8, 0.6, 0.4, 0.2)


@final
@dataclass(frozen=True)
class SaliencyDecay:
    """The probability of each token that follows a salient one, under each ratio of attention to the reply so far.

    Args:
        lines: ratio, prompt, position of the token, its probability.
        threshold: the score above which a token counted as salient.
    """

    lines: tuple[tuple[float, int, int, float], ...]
    threshold: float

    def frame(self) -> pd.DataFrame:
        """Return every line as a table."""
        return pd.DataFrame(list(self.lines), columns=["ratio", "prompt", "position", "probability"])

    def table(self) -> pd.DataFrame:
        """Return mean probability and number of tokens for every ratio; no rows if no token was salient."""
        grouped = self.frame().groupby("ratio", sort=False)["probability"]
        return grouped.agg(["mean", "count"]).reset_index()


def saliency_decay(
    model: Model,
    prompts: Sequence[Prompt],
    *,
    ratios: Sequence[float] = RATIOS,
    threshold: float = 0.45,
    progress: bool = True,
) -> SaliencyDecay:
    """Scale the attention from salient tokens to the reply before them, and measure the probability of the tokens that follow.

    A token is salient when its score (row-wise L2 norm, its own key, mean over heads and layers) is above `threshold`. In its
    row, the attention to RESPONSE tokens is multiplied by the ratio after the softmax, in all layers, without renormalising.

    Args:
        model: the model.
        prompts: conversations with a teacher-forced reply.
        ratios: the factors; 1 is the baseline.
        threshold: the score above which a token counts as salient.
        progress: whether to show a bar.

    Raises:
        ValueError: no prompt, or a ratio outside [0, 1].

    References: LVLMs-Saliency, Table 5. Differs: the paper does not say exactly what is multiplied; this is our reading (methods
    section 2.4), measured on a given reply instead of a new one.
    """
    if not prompts or any(not 0 <= r <= 1 for r in ratios):
        raise ValueError(
            f"the experiment needs prompts and ratios in [0, 1]; got {len(prompts)} prompts and {list(ratios)}"
        )
    lines: list[tuple[float, int, int, float]] = []
    for index, prompt in enumerate(tqdm(prompts, desc="decay", disable=not progress)):
        scores = measure(model, prompt, ResponseSaliency(), progress=False).score("own")
        response = prompt.layout.positions(Segment.RESPONSE)
        rows = [
            p - 1 for p, score in zip(response, scores.tolist(), strict=True) if score > threshold and p - 1 in response
        ]
        for ratio in ratios if rows else ():
            change = ScalePattern(Segment.RESPONSE, ratio, queries=tokens(rows))
            logits = capture(model, prompt, want={"logits"}, interventions=() if ratio == 1 else (change,)).logits
            said = logits[rows].float().softmax(-1).gather(-1, torch.tensor(prompt.ids)[[r + 1 for r in rows]][:, None])
            lines += [(ratio, index, r + 1, float(p)) for r, p in zip(rows, said[:, 0], strict=True)]
    return SaliencyDecay(tuple(lines), threshold)
