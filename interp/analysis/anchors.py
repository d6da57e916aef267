"""Visual anchors after CLVA: which heads attend to the image, where on it, and how far later layers drift from there.

`VisualAnchors` is the analysis, `VisualDrift` its result. The functions above them are its steps on plain arrays.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.analysis.base import Analysis, View
from interp.data.result import Result
from interp.data.tokens import EMITTING, Segment, Selector, tokens

GridShape = tuple[int, int, int, int]
"""Image, tile, rows and columns of one grid of image tokens."""


def visual_mass(pattern: Float[Tensor, "*layer query key"], image: Bool[Tensor, " key"]) -> Float[Tensor, "*layer"]:
    """Return Φ, the share of attention that the image gets, averaged over the query rows; in [0, 1].

    References: CLVA, the visual sensitivity Φ_h after VisFlow (methods section 7). Differs: no.
    """
    return pattern.float()[..., image].sum(-1).mean(-1)


def head_groups(
    mass: Float[Tensor, " head"], spread: float = 1.0
) -> tuple[Bool[Tensor, " head"], Bool[Tensor, " head"], tuple[str, ...]]:
    """Return the visually sensitive heads of a layer, the insensitive ones, and the names of the groups that were filled.

    Sensitive: Φ > μ + λσ over the layer's heads; insensitive: Φ < μ - λσ; σ with n. An empty group is filled with the one head
    of largest, or smallest, Φ, and named in the third value.

    References: CLVA (methods section 7). Differs: the paper does not say what happens to an empty group.
    """
    mass = mass.double()
    middle, width = mass.mean(), mass.std(correction=0) if len(mass) > 1 else mass.new_zeros(())
    groups = {"sensitive": mass > middle + spread * width, "insensitive": mass < middle - spread * width}
    filled = tuple(name for name, group in groups.items() if not bool(group.any()))
    for name in filled:
        groups[name][mass.argmax() if name == "sensitive" else mass.argmin()] = True
    return groups["sensitive"], groups["insensitive"], filled


def visual_map(
    pattern: Float[Tensor, "head query key"], heads: Bool[Tensor, " head"], image: Bool[Tensor, " key"]
) -> Float[Tensor, "query token"]:
    """Return M, the attention from each row to each image token, averaged over some heads; probability mass in [0, 1].

    References: CLVA equation 5 (methods section 7). Differs: no.
    """
    return pattern.float()[heads][..., image].mean(0)


def map_entropy(maps: Float[Tensor, "*layer token"], *, normalised: bool = True) -> Float[Tensor, "*layer"]:
    """Return the entropy of maps over the image tokens in nats, -Σ M ln M.

    Args:
        maps: non-negative.
        normalised: divide each map by its sum first; the entropy is then in [0, ln n], and 0 for a map of zeros. The published form,
            without normalisation, mixes the spread of attention with its amount.

    References: CLVA (methods section 7). Differs: the normalised form is the default.
    """
    if normalised:
        mass = maps.sum(-1, keepdim=True)
        maps = torch.where(mass > 0, maps / torch.where(mass > 0, mass, 1.0), 0.0)
    return -torch.xlogy(maps, maps).sum(-1)


def pearson(one: Float[Tensor, "*layer token"], other: Float[Tensor, "*layer token"]) -> Float[Tensor, "*layer"]:
    """Return Pearson's correlation along the last axis, in [-1, 1]; 0 where one side does not vary.

    References: CLVA equation 6. Differs: no.
    """
    a, b = (x.double() - x.double().mean(-1, keepdim=True) for x in (one, other))
    a, b = (
        torch.where(x.abs().amax(-1, keepdim=True) > 1e-12 * y.abs().amax(-1, keepdim=True), x, 0.0)
        for x, y in ((a, one), (b, other))
    )
    a, b = (x / x.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny) for x in (a, b))
    return (a * b).sum(-1).clamp(-1, 1).float()


def outlier_tokens(maps: Float[Tensor, "*layer token"], above: float = 2.0) -> Bool[Tensor, "*layer token"]:
    """Return the outliers of each map: image tokens more than `above` standard deviations (with n) over its mean.

    A constant map has no outliers.

    References: CLVA, Z(j) = 1[z > τ] (methods section 7). Differs: no.
    """
    maps = maps.double()
    off = maps - maps.mean(-1, keepdim=True)
    return off > above * off.square().mean(-1, keepdim=True).sqrt() + 1e-12 * maps.abs().amax(-1, keepdim=True)


@final
@dataclass(frozen=True)
class VisualDrift(Result):
    """How attention to the image changes from layer to layer, for every row that emits a token.

    `mass` is Φ per layer and head over the text rows of the prompt, `sensitive` and `insensitive` the head groups it gives. `maps` is
    the head-averaged M of each row over the image tokens (`key`: their positions), `maps_sensitive` and `maps_insensitive` its mean
    over either group. The positive visual anchor is `maps_sensitive` of layer `middle`, the negative one `maps_insensitive` of layer
    `first`; `r_positive` and `r_negative` are Pearson's correlation of every layer's `maps` with them, `positive` and `negative` the image
    tokens that are outliers of them. `entropy` is that of the normalised `maps` in nats, `entropy_as_published` without normalising.
    """

    mass: Float[Tensor, "layer head"]
    sensitive: Bool[Tensor, "layer head"]
    insensitive: Bool[Tensor, "layer head"]
    maps: Float[Tensor, "layer query key"]
    maps_sensitive: Float[Tensor, "layer query key"]
    maps_insensitive: Float[Tensor, "layer query key"]
    entropy: Float[Tensor, "layer query"]
    entropy_as_published: Float[Tensor, "layer query"]
    r_positive: Float[Tensor, "layer query"]
    r_negative: Float[Tensor, "layer query"]
    positive: Bool[Tensor, "query key"]
    negative: Bool[Tensor, "query key"]
    layers: tuple[int, ...]
    queries: tuple[int, ...]
    image: tuple[int, ...]
    shapes: tuple[GridShape, ...]
    middle: int
    first: int
    notes: tuple[str, ...]

    @classmethod
    def summary_field(cls) -> str:
        """Return `r_positive`."""
        return "r_positive"

    @property
    def labels(self) -> dict[str, list]:
        """The layers and the positions of rows and image tokens."""
        return {"layer": list(self.layers), "query": list(self.queries), "key": list(self.image)}

    @property
    def positive_anchor(self) -> Float[Tensor, "query key"]:
        """The positive visual anchor: the map of the sensitive heads of the middle layer."""
        return self.maps_sensitive[self.layers.index(self.middle)]

    @property
    def negative_anchor(self) -> Float[Tensor, "query key"]:
        """The negative visual anchor: the map of the insensitive heads of the first layer."""
        return self.maps_insensitive[self.layers.index(self.first)]

    def on_grid(self, values: Float[Tensor, " key"]) -> dict[tuple[int, int], Float[Tensor, "row col"]]:
        """Return one map as a grid per image and tile.

        Raises:
            ValueError: another number of values than image tokens.
        """
        if len(values) != len(self.image):
            raise ValueError(f"{len(values)} values were given for {len(self.image)} image tokens")
        parts = values.split([rows * cols for _, _, rows, cols in self.shapes])
        return {(i, t): part.reshape(r, c) for (i, t, r, c), part in zip(self.shapes, parts, strict=True)}


@final
@dataclass(frozen=True)
class VisualAnchors(Analysis[VisualDrift]):
    """Find the heads that attend to the image, and compare the maps of all layers with the visual anchors.

    Args:
        spread: λ, the distance of a head group from the mean of its layer, in standard deviations.
        above: τ, the same for the outliers of a visual anchor.
        text: the rows over which Φ is averaged; by default the text of the prompt after the image.
        emitting: the rows whose maps are compared.
        middle: the layer of the positive visual anchor; half the number of layers less two by default, at least 0.
        first: the layer of the negative visual anchor.

    Raises:
        ValueError: a negative width.

    References: CLVA (methods section 7; no code was released). Differs: head groups come from the prompt and are the same for every
    row, maps are each row's own (methods, decision 8); equation 6 gives the negative correlation only.
    """

    spread: float = 1.0
    above: float = 2.0
    text: Selector = Segment.USER
    emitting: Selector = EMITTING
    middle: int | None = None
    first: int = 0
    want: ClassVar[frozenset[str]] = frozenset({"pattern"})

    def __post_init__(self) -> None:
        """Refuse negative widths."""
        if self.spread < 0 or self.above < 0:
            raise ValueError(
                f"spread and above count standard deviations, at least 0; got {self.spread} and {self.above}"
            )

    @property
    def rows(self) -> Selector:
        """The text rows and the emitting ones."""
        return tokens(self.text) | self.emitting

    def reduce(self, values: Mapping[str, Tensor], view: View) -> dict[str, Any]:
        """Return one layer's visual mass, head groups and maps."""
        pattern = values["pattern"]
        image = view.layout.mask(Segment.IMAGE).to(pattern.device)
        if not bool(image.any()):
            raise ValueError("visual anchors need an image, and this conversation has none")
        text, emitting = (_rows(view, which) for which in (self.text, self.emitting))
        mass = torch.stack([visual_mass(head[text], image) for head in pattern])  # one head is copied at a time
        sensitive, insensitive, filled = head_groups(mass, self.spread)
        emits = pattern[:, emitting]
        every = torch.ones_like(sensitive)
        maps = {
            n: visual_map(emits, g, image).cpu()
            for n, g in (("", every), ("_sensitive", sensitive), ("_insensitive", insensitive))
        }
        groups = {"mass": mass.cpu(), "sensitive": sensitive.cpu(), "insensitive": insensitive.cpu()}
        return {**groups, **{f"maps{n}": m for n, m in maps.items()}, "filled": filled}

    def finish(self, partials: Mapping[int, dict[str, Any]], view: View) -> VisualDrift:
        """Compare every layer with the visual anchors."""
        layers = tuple(partials)
        middle = max((max(layers) + 1) // 2 - 2, 0) if self.middle is None else self.middle
        missing = [i for i in (self.first, middle) if i not in partials]
        if missing:
            raise ValueError(
                f"the visual anchors come from layers {self.first} and {middle}, but {missing} are not among {list(layers)}"
            )
        names = ("mass", "sensitive", "insensitive", "maps", "maps_sensitive", "maps_insensitive")
        found = {n: torch.stack([p[n] for p in partials.values()]) for n in names}
        anchors = found["maps_sensitive"][layers.index(middle)], found["maps_insensitive"][layers.index(self.first)]
        ends = {"sensitive": "largest", "insensitive": "smallest"}
        return VisualDrift(
            **found,
            entropy=map_entropy(found["maps"]),
            entropy_as_published=map_entropy(found["maps"], normalised=False),
            r_positive=pearson(found["maps"], anchors[0].expand_as(found["maps"])),
            r_negative=pearson(found["maps"], anchors[1].expand_as(found["maps"])),
            positive=outlier_tokens(anchors[0], self.above),
            negative=outlier_tokens(anchors[1], self.above),
            layers=layers,
            queries=view.layout.positions(self.emitting),
            image=view.layout.positions(Segment.IMAGE),
            shapes=tuple((g.image, g.tile, g.rows, g.cols) for g in view.layout.grids),
            middle=middle,
            first=self.first,
            notes=tuple(
                f"layer {i}: no head is {name}, so the one with the {ends[name]} visual mass takes their place"
                for i, p in partials.items()
                for name in p["filled"]
            ),
        )


def _rows(view: View, which: Selector) -> list[int]:
    positions = view.layout.positions(which)
    if not positions:
        raise ValueError(f"the rows {tokens(which)} take no token of this conversation")
    return [view.queries.index(p) for p in positions]
