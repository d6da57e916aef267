"""DAMRO: what the model says is set against what it says of the few patches that draw the vision tower's attention."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isqrt
from typing import Any, ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.data.prompt import Prompt
from interp.data.tokens import Segment
from interp.interventions.attention import Scores, forbidden
from interp.interventions.base import Here, Intervention
from interp.interventions.function import Apply
from interp.methods.contrast import Contrast, SecondStream, check_images, check_strength
from interp.taps.points import AttentionTaps
from interp.taps.running import resumed

PUBLISHED, PUBLISHED_QFORMER = (10, 576), (4, 256)
"""How many patches are outliers, of how many: of LLaVA-1.5's image, and of what InstructBLIP's Q-Former looks at."""


@final
@dataclass(frozen=True)
class Damro(SecondStream):
    """`Contrast` with a stream that is shown only the outliers among the image's patches.

    Outliers are the `top` patches of an image that the vision tower's class token attends to most, in the layer whose output the
    language model gets. In the second stream they are the image: the other image tokens are hidden from every row and take no
    position, so that it is the shorter sequence without them. Where tokens merge patches, a token has the attention of all of its own.
    A Q-Former is shown the outliers alone and makes as many image tokens of them as ever.

    Args:
        alpha: how far the two streams are set apart; 0 is neutral together with `beta=0`.
        beta: the least share of the likeliest token's probability that makes a token plausible.
        top: how many outliers an image (or tile) has; by default 10 of 576 tokens, or with a Q-Former 4 of 256 patches, of as many as
            there are.
        layer: the vision tower's layer that is asked; by default the one the language model is fed from, with a Q-Former the last
            but one.

    References: Gong et al., DAMRO (EMNLP 2024), and its released code: alpha 2 for LLaVA, 0.5 to 1.5 for InstructBLIP. Attention is
    read as there: of queries and keys over their full width, with a Q-Former as the mean over heads of each head's softmax.
    Differs: greedy decoding too; the hidden tokens cost what they did; published numbers become shares of the image.
    """

    alpha: float = 2.0
    beta: float = 0.1
    top: int | None = None
    layer: int | None = None

    def __post_init__(self) -> None:
        """Refuse settings without a meaning.

        Raises:
            ValueError: a negative alpha, beta outside [0, 1], or fewer than one outlier.
        """
        check_strength(self.alpha, self.beta)
        if self.top is not None and self.top < 1:
            raise ValueError(f"an image has at least one outlier, got top={self.top}")

    def refusal(self, model: Any) -> str | None:
        """Say that there is no image, no class token, no such layer, or no token that belongs to a patch."""
        if not model.family.image_token:
            return "it looks for outliers in an image, and this is a language model"
        tower = model.module.get_submodule(model.family.vision) if model.family.vision else torch.nn.Module()
        if not any(n.endswith(("class_embedding", "cls_token")) for n, _ in tower.named_parameters()):
            return "its vision tower has no class token, whose attention tells the outliers"
        layers = vision_layers(model)
        if not -layers <= self._layer(model) < layers:
            return f"layer={self.layer} is not there: its vision tower has layers 0..{layers - 1}"
        if getattr(model.config, "image_grid_pinpoints", None):
            return "it joins the tiles of an image and cuts them to its shape, so that its tokens are not the tower's patches"
        return None

    def rules(self, model: Any, prompts: Sequence[Prompt]) -> tuple[Any, ...]:
        """Return the rule that follows the stream that is shown the outliers.

        Raises:
            ValueError: a prompt without an image, or one with no more image tokens than outliers.
        """
        check_images(self, prompts)
        if model.family.qformer is None:
            second = Contrast(lambda p: thinned(p, self.outliers(model, p).flatten()), self.alpha, self.beta)
        else:
            shown = ShowPatches(torch.cat([self.outliers(model, p) for p in prompts]))
            second = Contrast(lambda p: p, self.alpha, self.beta, (shown,))
        return second.rules(model, prompts)

    def outliers(self, model: Any, prompt: Prompt) -> Bool[Tensor, "image key"]:
        """Return which of a prompt's image tokens, by tile, are outliers; with a Q-Former which of the patches it looks at.

        Raises:
            ValueError: there are no more of them than outliers are asked for.
        """
        if model.family.qformer is None:
            scores = class_attention(model, prompt, self._layer(model), "attn_scores")
            whole = (scores.sum(1) / scores.shape[1] ** 0.5).softmax(-1)  # queries and keys over their full width
            looks = merged(whole[:, 1:], len(prompt.layout.positions(Segment.IMAGE)))
        else:
            looks = class_attention(model, prompt, self._layer(model), "pattern").mean(1)[:, 1:]
        count = looks.shape[1]
        few, many = PUBLISHED if model.family.qformer is None else PUBLISHED_QFORMER
        top = max(1, round(few * count / many)) if self.top is None else self.top
        if top >= count:
            raise ValueError(
                f"{self} shows {top} outliers of {count}, so nothing would be left out; give a smaller top"
            )
        return torch.zeros_like(looks, dtype=torch.bool).scatter(1, looks.topk(top).indices, True)

    def _layer(self, model: Any) -> int:
        if self.layer is not None:
            return self.layer
        fed = getattr(model.config, "vision_feature_layer", -2)
        layer = int(fed if isinstance(fed, int) else fed[-1])
        return layer % vision_layers(model)


def class_attention(model: Any, prompt: Prompt, layer: int, site: str) -> Float[Tensor, "tile head key"]:
    """Return the class token's row of the vision tower's scores or pattern in a layer, for every image or tile of a prompt."""
    rows: list[Tensor] = []

    def look(value: Tensor, here: Here) -> Tensor:
        rows.append(value[:, :, 0].float())
        return value

    looking = Apply(site, look, (layer,), part="vision")
    with torch.no_grad(), resumed(model.running([prompt], (looking,))):
        model.module(**model.inputs([prompt]), use_cache=False)
    return torch.cat(rows).cpu()


def vision_layers(model: Any) -> int:
    """Return how many attention layers a model's vision tower has."""
    return sum(isinstance(m, AttentionTaps) and m.part == "vision" for m in model.module.modules())


def merged(looks: Float[Tensor, "tile key"], count: int) -> Float[Tensor, "tile token"]:
    """Return the attention on a prompt's image tokens: each square of patches that one token merges has the sum of its own.

    Raises:
        ValueError: `count` tokens are no whole number of such squares.
    """
    tiles, patches = looks.shape
    times = isqrt(patches * tiles // count) if count <= patches * tiles else 0
    side = isqrt(patches)
    if not times or side % times or tiles * (side // times) ** 2 != count:
        raise ValueError(
            f"the vision tower sees {tiles} × {patches} patches and the prompt has {count} image tokens: "
            "they are not its patches, nor squares of them"
        )
    return looks.unflatten(1, (side // times, times, side // times, times)).sum((2, 4)).flatten(1)


def thinned(prompt: Prompt, kept: Bool[Tensor, " token"]) -> Prompt:
    """Return a prompt some of whose image tokens no row sees; positions are counted without the others, as if these were not there."""
    mask = prompt.inputs["attention_mask"].clone()
    hidden = torch.tensor(prompt.layout.positions(Segment.IMAGE))[~kept]
    mask[0, hidden.to(mask.device)] = 0
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    return replace(prompt, inputs={**prompt.inputs, "attention_mask": mask, "position_ids": positions})


@final
@dataclass(frozen=True, eq=False)
class ShowPatches(Intervention):
    """Let a Q-Former look at some patches alone, a choice for each image of the batch; the class token in front of them is hidden."""

    shown: Bool[Tensor, "image key"]
    part: ClassVar[str] = "cross"
    site: ClassVar[str] = "attn_scores"

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Return the scores without those of the other patches."""
        hidden = torch.nn.functional.pad(~self.shown, (1, 0), value=True)
        return forbidden(value, hidden.to(value.device)[:, None, None])
