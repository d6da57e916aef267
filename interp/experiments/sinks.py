"""Causal study of attention sinks after SPEAR: mask them, or set their values to zero or to a mean, and score tasks.

`sink_ablation` is one intervention, `sink_study` the whole study over `Task`s; `tasks` has those of the drawn world.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import pandas as pd
from tqdm import tqdm

from interp.analysis.sinks import Sinks
from interp.data.prompt import Prompt, Reply
from interp.data.tokens import AFTER_IMAGE, SINKS, Segment, Tokens, marked, tokens
from interp.decoding.generate import generate
from interp.interventions.attention import MaskAttention
from interp.interventions.base import Intervention
from interp.interventions.values import MeanValues, ZeroValues
from interp.models.model import Model
from interp.passes.measure import measure

HOW = ("mask", "zero", "mean")


def sink_ablation(how: str, sinks: Tokens = SINKS) -> Intervention:
    """Return one of SPEAR's causal interventions on the sinks.

    `mask`: the rows of the question and the reply cannot see them, and the softmax redistributes their share. `zero`: they receive the
    same attention, but their values are zero. `mean`: their values are the mean of the prompt's other tokens. In all layers and heads.

    Args:
        how: the intervention.
        sinks: the tokens; by default those marked as sinks in each prompt.

    Raises:
        ValueError: an unknown intervention.

    References: SPEAR, the causal interventions (methods section 4.3). Differs: the mean is over the prompt, once (decision 9).
    """
    if how not in HOW:
        raise ValueError(f"how is one of {', '.join(HOW)}, got {how!r}")
    if how == "mask":
        return MaskAttention(sinks, queries=AFTER_IMAGE)
    return ZeroValues(sinks) if how == "zero" else MeanValues(sinks)


@final
@dataclass(frozen=True, eq=False)
class Task:
    """Conversations and a score of their replies.

    Args:
        name: the name in tables.
        prompts: the conversations.
        score: from the index of a prompt and the reply to figures by name, such as `quality` and `hallucinated`.
        max_new_tokens: the longest reply.
    """

    name: str
    prompts: Sequence[Prompt]
    score: Callable[[int, Reply], Mapping[str, float]]
    max_new_tokens: int = 96


@final
@dataclass(frozen=True, eq=False)
class SinkStudy:
    """One line per task, intervention, set of tokens and prompt: the scores, the reply, its length and whether the model ended it."""

    lines: tuple[Mapping[str, object], ...]

    def frame(self) -> pd.DataFrame:
        """Return every line as a table."""
        return pd.DataFrame(list(self.lines))

    def table(self) -> pd.DataFrame:
        """Return the means by task, tokens and intervention."""
        lines = self.frame()
        numbers = [c for c in lines.columns if pd.api.types.is_numeric_dtype(lines[c]) and c != "prompt"]
        return lines.groupby(["task", "tokens", "how"], sort=False)[numbers].mean().reset_index()


def sink_study(
    model: Model,
    tasks: Sequence[Task],
    *,
    how: Sequence[str] = HOW,
    detector: Sinks | None = None,
    batch_size: int = 16,
    progress: bool = True,
) -> SinkStudy:
    """Run SPEAR's causal study: every task at the baseline and under every intervention on all sinks, each sink alone, and two controls.

    The controls are the image tokens that receive the most attention (`visual`) and other text tokens of the system prompt or
    question (`other`), as many as there are sinks.

    Args:
        model: the model.
        tasks: the tasks.
        how: the interventions.
        detector: the analysis that finds the sinks.
        batch_size: the number of prompts decoded together.
        progress: whether to show a bar.

    Raises:
        ValueError: a prompt has no sink; the message has the attention of the most attended token.
    """
    ready = [
        Task(t.name, [_marked(model, p, detector or Sinks()) for p in t.prompts], t.score, t.max_new_tokens)
        for t in tasks
    ]
    conditions: list[tuple[str, str, tuple[Intervention, ...]]] = [("none", "nothing", ())]
    for name in _sets([p for t in ready for p in t.prompts]):
        conditions += [(h, name, (sink_ablation(h, marked(name)),)) for h in how]
    lines: list[Mapping[str, object]] = []
    for task, (way, name, interventions) in tqdm(
        [(t, c) for t in ready for c in conditions], desc="sinks", disable=not progress
    ):
        for start in range(0, len(task.prompts), batch_size):
            batch = task.prompts[start : start + batch_size]
            replies = generate(model, batch, *interventions, max_new_tokens=task.max_new_tokens)
            for index, reply in enumerate(replies, start):
                said = {"tokens_generated": len(reply.ids), "ended": float(reply.stop == "end"), "reply": reply.text}
                lines.append(
                    {"task": task.name, "tokens": name, "how": way, "prompt": index, **task.score(index, reply), **said}
                )
    return SinkStudy(tuple(lines))


def _marked(model: Model, prompt: Prompt, detector: Sinks) -> Prompt:
    """Return a prompt with its sinks, each sink, and both controls marked."""
    found = measure(model, prompt, detector, progress=False)
    if not found.positions:
        best = int(found.occupancy.mean(0).argmax())
        raise ValueError(
            f"{model.name} has no attention sink in this prompt: "
            f"the most attended token is {prompt.tokens[best]!r} at {best} with "
            f"{float(found.received.mean((0, 1))[best]):.2f} of the attention (ε = {detector.epsilon}); "
            "give a detector with a lower epsilon"
        )
    layout, wanted = prompt.layout, len(found.positions)
    occupancy = found.occupancy.mean(0)
    visual = sorted(layout.positions(Segment.IMAGE), key=lambda i: -float(occupancy[i]))[:wanted]
    text = tokens(Segment.SYSTEM | Segment.USER) - found.positions
    other = layout.positions(text)[len(layout.positions(text)) // 2 :][:wanted]
    each = {f"sink_{i}": (p,) for i, p in enumerate(found.positions)} if wanted > 1 else {}
    controls = {"visual": visual, "other": other} if visual else {"other": other}
    return prompt.marked(sink=found.positions, **each, **controls)


def _sets(prompts: Sequence[Prompt]) -> list[str]:
    """Return the names of the marks that every prompt has."""
    names = [n for n in prompts[0].layout.marks if n == "sink" or n.startswith("sink_") or n in ("visual", "other")]
    return [n for n in names if all(n in p.layout.marks for p in prompts)]
