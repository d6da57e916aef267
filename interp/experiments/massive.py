"""Causal study of massive activations: set to zero, to their mean over prompts, or to the mean of the other tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import pandas as pd
import torch
from tqdm import tqdm

from interp.analysis.sinks import Sinks, SinkTable
from interp.data.prompt import Prompt
from interp.experiments.effect import Loss, Quantity
from interp.interventions.stream import SetDims
from interp.models.model import Model
from interp.passes.capture import capture
from interp.passes.measure import measure

SET_TO: tuple[Literal["zero", "value", "mean"], ...] = ("zero", "value", "mean")


@final
@dataclass(frozen=True)
class MassiveStudy:
    """A quantity at the baseline and for each value that one massive activation is set to, for every prompt.

    Args:
        position: the token that carries it.
        dim: its dimension.
        layer: the block after which it is set.
        held_at: its mean over the prompts, which `value` sets it to.
        lines: setting, prompt and quantity.
    """

    position: int
    dim: int
    layer: int
    held_at: float
    lines: tuple[tuple[str, int, float], ...]

    def frame(self) -> pd.DataFrame:
        """Return every line as a table."""
        return pd.DataFrame(list(self.lines), columns=["how", "prompt", "value"])

    def table(self) -> pd.DataFrame:
        """Return the mean of the quantity for every setting."""
        return self.frame().groupby("how", sort=False)["value"].mean().reset_index()


def massive_study(
    model: Model,
    prompts: Sequence[Prompt],
    *,
    of: Quantity | None = None,
    detector: Sinks | None = None,
    progress: bool = True,
) -> MassiveStudy:
    """Set the largest massive activation to several values and measure a quantity.

    `baseline` leaves it alone; `zero`; `value` is its mean over the prompts; `mean` is the mean of the prompt's other tokens.

    The activation is the largest, relative to the layer's median, at a token and dimension where every prompt has a massive one.
    It is set after the first layer that has it.

    Args:
        model: the model.
        prompts: conversations with a reply, for the default quantity.
        of: the quantity; the loss of the reply by default.
        detector: the bounds of a massive activation.
        progress: whether to show a bar.

    Raises:
        ValueError: no prompt, or no token and dimension that is massive in all of them; the message has the largest activation.

    References: Sun et al., Massive Activations (2024), section on interventions: zero breaks the model, the mean over inputs
    does not. Differs: `mean` over other tokens of the same prompt is a control of our own.
    """
    if not prompts:
        raise ValueError("the study needs at least one prompt")
    quantity, bounds = of or Loss(), detector or Sinks()
    tables = [measure(model, p, bounds, progress=False) for p in prompts]
    layer, position, dim = _shared(tables, bounds)
    held = [capture(model, p, want={"resid_post"}, layers=[layer]).resid_post[0, position, dim] for p in prompts]
    mean = float(torch.stack(held).float().mean())
    ways = {how: SetDims(position, (dim,), how, (mean,) if how == "value" else (), layers=(layer,)) for how in SET_TO}
    lines: list[tuple[str, int, float]] = []
    for index, prompt in enumerate(tqdm(prompts, desc="massive", disable=not progress)):
        lines.append(("baseline", index, quantity(model, prompt, ())))
        lines += [(how, index, quantity(model, prompt, (intervention,))) for how, intervention in ways.items()]
    return MassiveStudy(position, dim, layer, mean, tuple(lines))


def _shared(tables: Sequence[SinkTable], bounds: Sinks) -> tuple[int, int, int]:
    """Return layer, position and dimension of the largest activation that is massive in all prompts."""
    shortest = min(t.massive.shape[1] for t in tables)
    massive = torch.stack([t.is_massive()[:, :shortest] for t in tables]).all(0)
    dims = torch.stack([t.massive_dim[:, :shortest] for t in tables])
    massive &= (dims == dims[0]).all(0)
    ratio = torch.stack([t.massive[:, :shortest] / t.median[:, None] for t in tables]).mean(0)
    if not massive.any():
        best = max(float(t.massive.max()) for t in tables)
        raise ValueError(
            f"no token and dimension is massive in all {len(tables)} prompts (above {bounds.above:g} and {bounds.times_median:g} × the "
            f"median); the largest activation is {best:.4g}, {float(ratio.max()):.4g} × the median. "
            "Lower the detector's bounds to study it"
        )
    _, position = divmod(int(torch.where(massive, ratio, -1.0).argmax()), shortest)
    layer = int(massive[:, position].int().argmax())
    return tables[0].layers[layer], position, int(dims[0, layer, position])
