"""What one pass over a reply shows: where the attention is, what the gradients add, and which tokens are sinks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.base import on_capture
from interp.analysis.budget import segment_shares
from interp.analysis.sinks import Sinks, SinkTable
from interp.data.layout import Layout
from interp.data.prompt import Prompt
from interp.data.tokens import PREDICTING, Segment, tokens
from interp.models.model import Model
from interp.passes.capture import capture
from interp.world import Scene, mentions
from interp.world.objects import Object

PARTS: Final = ("SINK", "SYSTEM", "IMAGE", "USER", "RESPONSE")
"""Where attention can go: the resting token, and the four segments without it."""


@final
@dataclass(frozen=True, eq=False)
class Look:
    """One reply in one pass.

    Args:
        scene: what the image shows.
        prompt: the question with the reply.
        word: the reply token that the gradients are of.
        at: its index in the reply.
        named: the class it names, where it names one.
        objects: the objects of that class in the scene.
        attention: on every token, in the row that emits the word; mean over layers and heads, in [0, 1].
        saliency: |A · ∂loss/∂A| there, mean over layers and heads, in nats.
        table: sinks and massive activations.
        shares: of the parts, per layer and reply token, mean over heads; in [0, 1].
    """

    scene: Scene = field(repr=False)
    prompt: Prompt = field(repr=False)
    word: str
    at: int
    named: str
    objects: tuple[Object, ...]
    attention: Float[Tensor, " token"] = field(repr=False)
    saliency: Float[Tensor, " token"] = field(repr=False)
    table: SinkTable = field(repr=False)
    pattern: Float[Tensor, "layer head query key"] = field(repr=False)

    def inside(self, values: Float[Tensor, " token"]) -> tuple[float, float]:
        """Return the part of the image tokens' values that lies in the named objects' boxes, and those boxes' part of the image."""
        places = self.prompt.layout.places()
        covers = torch.tensor([max((_cover(p.box, o.box) for o in self.objects), default=0.0) for p in places.values()])
        mine = values[list(places)].float()
        return float((mine * covers).sum() / mine.sum().clamp_min(1e-30)), float(covers.mean())

    def shares(self, resting: Sequence[int]) -> Float[Tensor, "layer step segment"]:
        """Return the share of every part per layer and reply token, mean over heads."""
        layout = self.prompt.layout
        rows = self.pattern.float().mean(1)
        segments = segment_shares(rows.unsqueeze(-2), layout)
        apart = [rows[..., [p for p in resting if p in layout.positions(s)]].sum(-1) for s in _segments()]
        rest = segments - torch.stack(apart, -1)
        return torch.cat([sum(apart, torch.zeros_like(apart[0])).unsqueeze(-1), rest], -1)


@final
@dataclass(frozen=True)
class Resting:
    """The tokens that attention rests on.

    Args:
        positions: where they are in every prompt.
        words: the tokens as text.
        found: whether they are sinks by the default bounds; otherwise the most attended token of the text before the image.
        scenes: in how many of the scenes looked at each is a sink.
        looked: how many were looked at.
        layers: the layers in which each is a sink in most scenes.
        received: attention received, mean over heads and scenes, largest over layers; in [0, 1].
        control: the most attended other token before the image.
        control_received: what that one receives.
    """

    positions: tuple[int, ...]
    words: tuple[str, ...]
    found: bool
    scenes: tuple[int, ...]
    looked: int
    layers: tuple[tuple[int, ...], ...]
    received: tuple[float, ...]
    control: int
    control_word: str
    control_received: float


def look(model: Model, scene: Scene, prompt: Prompt, reply_ids: Sequence[int]) -> Look:
    """Run one pass over a reply, forward and backward, and keep what the pictures need."""
    whole = prompt.with_response(reply_ids)
    at, named = _chosen(whole, scene)
    seen: Any = capture(model, whole, want={"pattern", "resid_post"}, grad={"pattern"}, target=at)
    row = len(prompt) - 1 + at
    attention, gradient = seen.pattern[:, :, row].float(), seen.pattern_grad[:, :, row].float()
    rows = list(whole.layout.positions(PREDICTING & tokens(range(len(prompt) - 1, len(whole)))))
    table: Any = on_capture(Sinks(), seen)
    return Look(
        scene,
        whole,
        whole.tokens[len(prompt) + at],
        at,
        named,
        tuple(o for o in scene.objects if o.name == named),
        attention.mean((0, 1)),
        (attention * gradient).abs().mean((0, 1)),
        table,
        seen.pattern[:, :, rows].half(),
    )


def resting(looks: Sequence[Look]) -> Resting:
    """Return the tokens before or in the image that are sinks in at least half of the replies, or the most attended one."""
    fixed = _fixed(looks[0].prompt.layout)
    counts = Counter(p for one in looks for p in one.table.positions if p in fixed)
    found = tuple(sorted(p for p, n in counts.items() if 2 * n >= len(looks)))
    received = torch.stack([one.table.received[:, :, list(fixed)].mean(1) for one in looks]).mean(0)
    system = looks[0].prompt.layout.positions(Segment.SYSTEM) or fixed
    by_attention = sorted(system, key=lambda p: -float(received[:, fixed.index(p)].mean()))
    positions = found or (by_attention[0],)
    control = next((p for p in by_attention if p not in positions), positions[0])
    words = looks[0].prompt.tokens
    layers = [
        torch.stack([one.table.is_sink[:, p] for one in looks]).float().mean(0).gt(0.5).nonzero().flatten().tolist()
        for p in positions
    ]
    return Resting(
        positions,
        tuple(words[p] for p in positions),
        bool(found),
        tuple(counts[p] for p in positions),
        len(looks),
        tuple(tuple(looks[0].table.layers[i] for i in at) for at in layers),
        tuple(float(received[:, fixed.index(p)].max()) for p in positions),
        control,
        words[control],
        float(received[:, fixed.index(control)].max()),
    )


def mean_shares(
    looks: Sequence[Look], rest: Resting
) -> tuple[Float[Tensor, "layer segment"], Float[Tensor, "step segment"]]:
    """Return the shares of the parts by layer, and along the reply while at least half of the replies last."""
    each = [one.shares(rest.positions) for one in looks]
    by_layer = torch.stack([s.mean(1) for s in each]).mean(0)
    lengths = sorted((s.shape[1] for s in each), reverse=True)
    last = lengths[(len(lengths) - 1) // 2]
    steps = [torch.stack([s[:, i].mean(0) for s in each if s.shape[1] > i]).mean(0) for i in range(last)]
    return by_layer, torch.stack(steps)


def _segments() -> tuple[Segment, ...]:
    return tuple(Segment[name] for name in PARTS[1:])


def _fixed(layout: Layout) -> tuple[int, ...]:
    """Return the positions that hold the same token in every prompt: those before and in the image."""
    return layout.positions(Segment.SYSTEM | Segment.IMAGE) or layout.positions(Segment.USER)[:1]


def _chosen(whole: Prompt, scene: Scene) -> tuple[int, str]:
    """Return the reply token to explain: the first true mention of an object, else the first mention, else the first token."""
    first = len(whole) - len(whole.response_ids)
    said = [(i, m[0].name) for i, word in enumerate(whole.tokens[first:]) if (m := mentions(word))]
    true = [(i, name) for i, name in said if name in scene.present]
    return (true or said or [(0, "")])[0]


def _cover(patch: tuple[float, ...] | None, box: tuple[int, ...]) -> float:
    """Return the part of a patch that lies in a box."""
    if patch is None:
        return 0.0
    width = max(0.0, min(patch[2], box[2]) - max(patch[0], box[0]))
    height = max(0.0, min(patch[3], box[3]) - max(patch[1], box[1]))
    return width * height / ((patch[2] - patch[0]) * (patch[3] - patch[1]))
