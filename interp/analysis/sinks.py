"""Attention sinks, the tokens that receive much of the attention, and the massive activations they carry.

`Sinks` is the analysis, `SinkTable` its result; `SinkTable.tokens` is the selection that interventions take.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.analysis.base import Analysis, View
from interp.data.result import Result
from interp.data.tokens import Tokens, tokens


def attention_received(pattern: Float[Tensor, "*batch query key"]) -> Float[Tensor, "*batch key"]:
    """Return the mean attention that each token receives from the rows that can see it.

    α_k = (1 / (T - k)) Σ_{i ≥ k} A_ik over all rows of one conversation, its own row included. In [0, 1]; the first token of a
    one-token conversation gets 1.

    References: Gu et al., When Attention Sink Emerges (2024), the importance score behind Sink_k^ε. Differs: no.
    """
    length = pattern.shape[-1]
    seen_by = torch.arange(length, 0, -1, device=pattern.device)
    maps = pattern.reshape(-1, *pattern.shape[-2:])
    received = torch.stack([one.float().tril().sum(-2) for one in maps])  # one map at a time, to copy no more than that
    return received.view(*pattern.shape[:-2], length) / seen_by


@final
@dataclass(frozen=True)
class SinkTable(Result):
    """The attention sinks of a conversation, their layers, and the massive activations of the residual stream.

    `received` is α_k per layer and head (mean attention from the rows that can see it, in [0, 1]); `occupancy` its head mean
    times the number of tokens (1 is an even share); `is_sink` the decision per layer; `massive` the largest absolute entry of the residual
    stream after each layer per token, `median` the layer's median absolute entry; `massive_dim` its dimension.
    """

    received: Float[Tensor, "layer head token"]
    occupancy: Float[Tensor, "layer token"]
    is_sink: Bool[Tensor, "layer token"]
    massive: Float[Tensor, "layer token"]
    massive_dim: Int[Tensor, "layer token"]
    median: Float[Tensor, " layer"]
    layers: tuple[int, ...]
    words: tuple[str, ...]
    segments: tuple[str, ...]
    positions: tuple[int, ...]
    persistent: float
    above: float
    times_median: float

    @classmethod
    def summary_field(cls) -> str:
        """Return `occupancy`."""
        return "occupancy"

    @property
    def labels(self) -> dict[str, list]:
        """The names of the layers."""
        return {"layer": list(self.layers)}

    @property
    def tokens(self) -> Tokens:
        """The sinks of the model in this conversation as a selection for interventions; may be empty."""
        return tokens(self.positions)

    def is_massive(self) -> Tensor:
        """Return (layer, token): whether the largest entry exceeds both bounds."""
        return (self.massive > self.above) & (self.massive > self.times_median * self.median[:, None])

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per sink: position, token, segment, layers, attention received, massive dimension, ratio to the median.

        References: SPEAR Table 1.
        """
        ratio = self.massive / self.median[:, None].clamp_min(torch.finfo(torch.float32).tiny)
        lines = []
        for p in self.positions:
            best = int(ratio[:, p].argmax())
            lines.append(
                {
                    "position": p,
                    "token": self.words[p],
                    "segment": self.segments[p],
                    "layers": [self.layers[i] for i in self.is_sink[:, p].nonzero().flatten().tolist()],
                    "received": float(self.received[:, :, p].mean(1).max()),
                    "massive_dim": int(self.massive_dim[best, p]),
                    "massive_ratio": float(ratio[best, p]),
                    "massive": bool(self.is_massive()[:, p].any()),
                }
            )
        return lines

    @property
    def massive_positions(self) -> tuple[int, ...]:
        """The tokens that carry a massive activation after any layer."""
        return tuple(self.is_massive().any(0).nonzero().flatten().tolist())

    def coincidence(self) -> dict[str, tuple[int, ...]]:
        """Return the tokens that are a sink and carry a massive activation (`both`), and those with only one of the two.

        References: Sun et al., Massive Activations (2024), section 4: tokens with massive activations attract the attention. Differs: no.
        """
        sinks, large = set(self.positions), set(self.massive_positions)
        groups = {"both": sinks & large, "sink": sinks - large, "massive": large - sinks}
        return {name: tuple(sorted(group)) for name, group in groups.items()}

    def table(self, *, every: bool = False) -> pd.DataFrame:
        """Return one row per sink: its place, its layers, the attention it receives and its largest activation.

        `layers` are written as spans ("3-31"), `persistence` is their share of all, `received` and `occupancy` are the largest
        over the layers, `massive_layers` are those after which its largest entry, at `massive_dim`, exceeds both bounds.

        Args:
            every: also list tokens that are a sink or massive in some layer only.

        References: SPEAR Table 1. Differs: shares, occupancy and massive activations are added.
        """
        ratio = self.massive / self.median[:, None].clamp_min(torch.finfo(torch.float32).tiny)
        large, received = self.is_massive(), self.received.mean(1)
        some = (self.is_sink | large).any(0).nonzero().flatten().tolist() if every else []
        lines = []
        for p in sorted({*self.positions, *some}):
            best = int(ratio[:, p].argmax())
            lines.append(
                {
                    "position": p,
                    "token": self.words[p],
                    "segment": self.segments[p],
                    "sink": p in self.positions,
                    "layers": spans([self.layers[i] for i in self.is_sink[:, p].nonzero().flatten().tolist()]),
                    "persistence": float(self.is_sink[:, p].float().mean()),
                    "received": float(received[:, p].max()),
                    "occupancy": float(self.occupancy[:, p].max()),
                    "massive_layers": spans([self.layers[i] for i in large[:, p].nonzero().flatten().tolist()]),
                    "massive_dim": int(self.massive_dim[best, p]),
                    "massive_ratio": float(ratio[best, p]),
                }
            )
        return pd.DataFrame(lines, columns=list(SINK_COLUMNS))


SINK_COLUMNS = (
    *("position", "token", "segment", "sink", "layers", "persistence", "received", "occupancy"),
    *("massive_layers", "massive_dim", "massive_ratio"),
)
"""The columns of `SinkTable.table`."""


def spans(layers: Sequence[int]) -> str:
    """Return layers the way papers write them: `3-31`, or `0, 3-5`; an empty string for no layer."""
    found: list[list[int]] = []
    for layer in sorted(layers):
        if found and layer == found[-1][1] + 1:
            found[-1][1] = layer
        else:
            found.append([layer, layer])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


@final
@dataclass(frozen=True)
class Sinks(Analysis[SinkTable]):
    """Find attention sinks and massive activations.

    A token is a sink of a layer if its α_k, averaged over heads, exceeds `epsilon`, or if that of at least half of the heads
    does. It is a sink of the model if this holds in at least `persistent` of the layers. The last `ignore_last` tokens are left
    out, because too few rows see them for a reliable mean.

    Args:
        epsilon: the bound on α_k.
        persistent: the share of layers.
        above: the absolute bound of a massive activation.
        times_median: its bound relative to the layer's median.
        ignore_last: the number of last tokens that are never sinks.

    References: SPEAR section on sink identification, which gives no threshold; Gu et al. (2024) for ε = 0.3; Sun et al., Massive
    Activations (2024) for the two bounds. Differs: both decisions are this project's (methods, decision 11).
    """

    epsilon: float = 0.3
    persistent: float = 1 / 3
    above: float = 100.0
    times_median: float = 1000.0
    ignore_last: int = 4
    want: ClassVar[frozenset[str]] = frozenset({"pattern", "resid_post"})

    def __post_init__(self) -> None:
        """Refuse bounds outside (0, 1].

        Raises:
            ValueError: epsilon or persistent outside (0, 1].
        """
        if not 0 < self.epsilon <= 1 or not 0 < self.persistent <= 1:
            raise ValueError(f"epsilon and persistent are shares in (0, 1], got {self.epsilon} and {self.persistent}")

    def reduce(self, values: Mapping[str, Tensor], view: View) -> dict[str, Tensor]:
        """Return one layer's attention received and largest activations."""
        received = attention_received(values["pattern"])
        stream = values["resid_post"].float().abs()
        largest, where = stream.max(-1)
        decided = (received.mean(0) > self.epsilon) | ((received > self.epsilon).float().mean(0) >= 0.5)
        found = {
            "received": received,
            "is_sink": decided,
            "massive": largest,
            "massive_dim": where,
            "median": stream.median(),
        }
        return {n: v.cpu() for n, v in found.items()}

    def finish(self, partials: Mapping[int, dict[str, Tensor]], view: View) -> SinkTable:
        """Decide which tokens are sinks of the model."""
        found = {n: torch.stack([p[n] for p in partials.values()]) for n in next(iter(partials.values()))}
        length = found["received"].shape[-1]
        candidates = torch.arange(length) < max(length - self.ignore_last, 1)
        lasting = (found["is_sink"].float().mean(0) >= self.persistent) & candidates
        return SinkTable(
            **found,
            occupancy=found["received"].mean(1) * length,
            layers=tuple(partials),
            words=view.words,
            segments=view.layout.names,
            positions=tuple(lasting.nonzero().flatten().tolist()),
            persistent=self.persistent,
            above=self.above,
            times_median=self.times_median,
        )
