"""Replies to scenes whose objects are known: attention on the named object, and the sinks that replies have in common.

`view_scene_reply` makes a `SceneReply` from one pass; `find_common_sinks` and `mean_shares` summarise several of them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.sinks import SinkTable
from interp.data.layout import Layout
from interp.data.prompt import Reply
from interp.data.tokens import Segment
from interp.interventions.method import resolve
from interp.models.model import Model
from interp.report.reply_view import BASELINE, ReplyView, divide_shares, view_reply
from interp.world import Scene, mentions
from interp.world.objects import Object


@final
@dataclass(frozen=True, eq=False)
class SceneReply:
    """A reply about a scene, and the token of it that the figures explain.

    Args:
        scene: the content of the image.
        view: the reply and what one pass over it gives.
        at: the index of the explained token in the reply.
        named: the object class that the token names; empty where it names none.
        objects: the objects of that class in the scene.
    """

    scene: Scene = field(repr=False)
    view: ReplyView
    at: int
    named: str
    objects: tuple[Object, ...]

    @property
    def word(self) -> str:
        """The explained token."""
        return _words(self.view)[self.at]

    @property
    def attention(self) -> Float[Tensor, " token"]:
        """Attention on every token in the row that predicts the word, mean over layers and heads; in [0, 1]."""
        return self.view.attention[:, :, self.at].mean((0, 1))

    @property
    def saliency(self) -> Float[Tensor, " token"]:
        """|A · ∂loss/∂A| in the same row, mean over layers and heads, in nats.

        Raises:
            ValueError: the model has no saliency for every token.
        """
        if self.view.saliency is None:
            raise ValueError(" ".join(self.view.notes))
        return self.view.saliency[:, :, self.at].mean((0, 1))

    def inside(self, values: Float[Tensor, " token"]) -> tuple[float, float]:
        """Return the share of the values on the image that lies in the boxes of the named objects, and the boxes' share of the image."""
        places = self.view.prompt.layout.places()
        covers = torch.tensor([max((_cover(p.box, o.box) for o in self.objects), default=0.0) for p in places.values()])
        mine = values[list(places)].float()
        return float((mine * covers).sum() / mine.sum().clamp_min(1e-30)), float(covers.mean())

    def shares(self, sinks: tuple[int, ...]) -> Float[Tensor, "layer step segment"]:
        """Return the shares of attention per layer and reply token, mean over heads, for given sinks."""
        return divide_shares(self.view.attention, self.view.prompt.layout, sinks).mean(1)


@final
@dataclass(frozen=True)
class CommonSinks:
    """The attention sinks that the replies to different scenes have in common.

    Args:
        positions: their positions, which are the same in every prompt.
        words: the tokens as text.
        found: whether they are sinks by the default thresholds; otherwise the most attended token before the image is taken.
        scenes: in how many replies each is a sink.
        replies: the number of replies.
        layers: the layers in which each is a sink in most replies.
        received: attention received, mean over heads and replies, maximum over layers; in [0, 1].
        control: the position of the most attended other token before the image.
        control_word: that token as text.
        control_received: the attention that it receives.
    """

    positions: tuple[int, ...]
    words: tuple[str, ...]
    found: bool
    scenes: tuple[int, ...]
    replies: int
    layers: tuple[tuple[int, ...], ...]
    received: tuple[float, ...]
    control: int
    control_word: str
    control_received: float


def view_scene_reply(model: Model, scene: Scene, reply: Reply) -> SceneReply:
    """Return a baseline reply about a scene with what one pass over it gives."""
    view = view_reply(model, BASELINE, resolve(model, [reply.prompt], ()), reply)
    at, named = _explained(_words(view), scene)
    return SceneReply(scene, view, at, named, tuple(o for o in scene.objects if o.name == named))


def find_common_sinks(replies: Sequence[SceneReply]) -> CommonSinks:
    """Return the tokens before or in the image that are sinks in at least half of the replies, or the most attended one."""
    layout, tables = replies[0].view.prompt.layout, [one.view.sinks for one in replies]
    fixed = _fixed(layout)
    counts = Counter(p for table in tables for p in table.positions if p in fixed)
    frequent = tuple(sorted(p for p, n in counts.items() if 2 * n >= len(replies)))
    received = torch.stack([table.received[:, :, list(fixed)].mean(1) for table in tables]).mean(0)
    system = layout.positions(Segment.SYSTEM) or fixed
    by_attention = sorted(system, key=lambda p: -float(received[:, fixed.index(p)].mean()))
    positions = frequent or (by_attention[0],)
    control = next((p for p in by_attention if p not in positions), positions[0])
    words = replies[0].view.prompt.tokens
    return CommonSinks(
        positions,
        tuple(words[p] for p in positions),
        bool(frequent),
        tuple(counts[p] for p in positions),
        len(replies),
        tuple(_sink_layers(tables, p) for p in positions),
        tuple(float(received[:, fixed.index(p)].max()) for p in positions),
        control,
        words[control],
        float(received[:, fixed.index(control)].max()),
    )


def mean_shares(
    replies: Sequence[SceneReply], sinks: CommonSinks
) -> tuple[Float[Tensor, "layer segment"], Float[Tensor, "step segment"]]:
    """Return the mean shares of attention by layer, and along the reply up to the length that half of the replies reach."""
    every = [one.shares(sinks.positions) for one in replies]
    by_layer = torch.stack([s.mean(1) for s in every]).mean(0)
    lengths = sorted((s.shape[1] for s in every), reverse=True)
    last = lengths[(len(lengths) - 1) // 2]
    steps = [torch.stack([s[:, i].mean(0) for s in every if s.shape[1] > i]).mean(0) for i in range(last)]
    return by_layer, torch.stack(steps)


def _words(view: ReplyView) -> tuple[str, ...]:
    return view.prompt.tokens[len(view.prompt) - len(view.reply.ids) :]


def _sink_layers(tables: Sequence[SinkTable], position: int) -> tuple[int, ...]:
    """Return the layers in which a position is a sink in most replies."""
    share = torch.stack([table.is_sink[:, position] for table in tables]).float().mean(0)
    return tuple(tables[0].layers[i] for i in share.gt(0.5).nonzero().flatten().tolist())


def _fixed(layout: Layout) -> tuple[int, ...]:
    """Return the positions that hold the same token in every prompt: those before and in the image."""
    return layout.positions(Segment.SYSTEM | Segment.IMAGE) or layout.positions(Segment.USER)[:1]


def _explained(words: Sequence[str], scene: Scene) -> tuple[int, str]:
    """Return the reply token to explain: the first true mention of an object, else the first mention, else the first token."""
    named = [(i, m[0].name) for i, word in enumerate(words) if (m := mentions(word))]
    true = [(i, name) for i, name in named if name in scene.present]
    return (true or named or [(0, "")])[0]


def _cover(patch: tuple[float, ...] | None, box: tuple[int, ...]) -> float:
    """Return the share of a patch that lies in a box."""
    if patch is None:
        return 0.0
    width = max(0.0, min(patch[2], box[2]) - max(patch[0], box[0]))
    height = max(0.0, min(patch[3], box[3]) - max(patch[1], box[1]))
    return width * height / ((patch[2] - patch[0]) * (patch[3] - patch[1]))
