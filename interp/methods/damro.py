"""DAMRO: contrasts the logits with those computed from the outlier patches, which draw most of the vision tower's attention."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isqrt
from typing import Any, ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.data.prompt import Prompt
from interp.data.tokens import Segment
from interp.decoding.second_stream import SecondStream, check_strength
from interp.decoding.stream import Continuation
from interp.interventions.attention import Scores, forbid
from interp.interventions.base import Intervention
from interp.interventions.function import Apply
from interp.interventions.here import Here
from interp.taps.points import AttentionTaps
from interp.taps.running import activate

OUTLIERS, OUTLIERS_QFORMER = (10, 576), (4, 256)
"""The published number of outliers and the number of patches: in LLaVA-1.5's image, and in the input of InstructBLIP's Q-Former."""


@final
@dataclass(frozen=True)
class Damro(SecondStream):
    """`Contrast` with a stream that sees only the outliers among the image's patches.

    Outliers are the `top` patches of an image that the vision tower's class token attends to most, in the layer whose output the
    language model receives. In the second stream, the other image tokens are hidden from every row and take no position, which equals
    the shorter sequence without them. Where a token merges several patches, their attention is summed. A Q-Former sees only the
    outliers and computes its usual number of image tokens from them.

    Args:
        alpha: strength of the contrast; 0 is neutral together with `beta=0`.
        beta: plausibility bound: the smallest probability of an admissible token, as a share of the largest one.
        top: how many outliers an image (or tile) has; by default the published share: 10 of 576 tokens, or with a Q-Former 4 of 256
            patches.
        layer: the layer of the vision tower whose attention is read; by default the one that feeds the language model, with a
            Q-Former the last but one.

    References: Gong et al., DAMRO (EMNLP 2024), and its released code: alpha 2 for LLaVA, 0.5 to 1.5 for InstructBLIP. As in that
    code, attention is computed from queries and keys over their full width; with a Q-Former, it is the mean over heads of each head's
    softmax. Differs: greedy decoding too; the hidden tokens still cost compute; published numbers become shares of the image.
    """

    alpha: float = 2.0
    beta: float = 0.1
    top: int | None = None
    layer: int | None = None
    on_image: ClassVar[str] = "it selects outliers among the patches of an image"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: a negative alpha, beta outside [0, 1], or fewer than one outlier.
        """
        check_strength(self.alpha, self.beta)
        if self.top is not None and self.top < 1:
            raise ValueError(f"an image has at least one outlier, got top={self.top}")

    def obstacle(self, model: Any) -> str | None:
        """Return why a model is refused that has no class token or no such layer, or whose image tokens are not patches."""
        tower = model.module.get_submodule(model.family.vision) if model.family.vision else torch.nn.Module()
        if not any(n.endswith(("class_embedding", "cls_token")) for n, _ in tower.named_parameters()):
            return "its vision tower has no class token, whose attention identifies the outliers"
        layers = vision_layers(model)
        if not -layers <= self._layer(model) < layers:
            return f"layer={self.layer} does not exist: its vision tower has layers 0..{layers - 1}"
        if getattr(model.config, "image_grid_pinpoints", None):
            return "it joins the tiles of an image and crops them to its shape, so that its tokens are not the tower's patches"
        return None

    def stream(self, model: Any, prompts: Sequence[Prompt]) -> Continuation:
        """Return the stream that sees only the outliers.

        Raises:
            ValueError: a prompt with no more image tokens than outliers.
        """
        each = [self.outliers(model, p) for p in prompts]
        if model.family.qformer is None:
            return Continuation(model, [keep_image_tokens(p, o.flatten()) for p, o in zip(prompts, each, strict=True)])
        return Continuation(model, prompts, (ShowPatches(torch.cat(each)),))

    def outliers(self, model: Any, prompt: Prompt) -> Bool[Tensor, "image key"]:
        """Return which of a prompt's image tokens, by tile, are outliers; with a Q-Former, which patches are.

        Raises:
            ValueError: no more of them than the number of outliers.
        """
        if model.family.qformer is None:
            scores = class_attention(model, prompt, self._layer(model), "attn_scores")
            whole = (scores.sum(1) / scores.shape[1] ** 0.5).softmax(-1)  # queries and keys over their full width
            attended = merge_patches(whole[:, 1:], len(prompt.layout.positions(Segment.IMAGE)))
        else:
            attended = class_attention(model, prompt, self._layer(model), "pattern").mean(1)[:, 1:]
        count = attended.shape[1]
        few, many = OUTLIERS if model.family.qformer is None else OUTLIERS_QFORMER
        top = max(1, round(few * count / many)) if self.top is None else self.top
        if top >= count:
            raise ValueError(
                f"{self} keeps {top} outliers of {count}, so nothing would be left out; give a smaller top"
            )
        return torch.zeros_like(attended, dtype=torch.bool).scatter(1, attended.topk(top).indices, True)

    def _layer(self, model: Any) -> int:
        if self.layer is not None:
            return self.layer
        fed = getattr(model.config, "vision_feature_layer", -2)
        layer = int(fed if isinstance(fed, int) else fed[-1])
        return layer % vision_layers(model)


def class_attention(model: Any, prompt: Prompt, layer: int, site: str) -> Float[Tensor, "tile head key"]:
    """Return the class token's row of the scores or pattern in a layer of the vision tower, for every image or tile of a prompt."""
    rows: list[Tensor] = []

    def record(value: Tensor, here: Here) -> Tensor:
        rows.append(value[:, :, 0].float())
        return value

    recorder = Apply(site, record, (layer,), part="vision")
    with torch.no_grad(), activate(model.running([prompt], (recorder,))):
        model.module(**model.inputs([prompt]), use_cache=False)
    return torch.cat(rows).cpu()


def vision_layers(model: Any) -> int:
    """Return how many attention layers a model's vision tower has."""
    return sum(isinstance(m, AttentionTaps) and m.part == "vision" for m in model.module.modules())


def merge_patches(attended: Float[Tensor, "tile key"], count: int) -> Float[Tensor, "tile token"]:
    """Return the attention on a prompt's image tokens: the sum over the square of patches that each token merges.

    Raises:
        ValueError: the patches do not divide into `count` such squares.
    """
    tiles, patches = attended.shape
    times = isqrt(patches * tiles // count) if count <= patches * tiles else 0
    side = isqrt(patches)
    if not times or side % times or tiles * (side // times) ** 2 != count:
        raise ValueError(
            f"the vision tower has {tiles} × {patches} patches and the prompt {count} image tokens: "
            "the tokens are neither single patches nor squares of them"
        )
    return attended.unflatten(1, (side // times, times, side // times, times)).sum((2, 4)).flatten(1)


def keep_image_tokens(prompt: Prompt, kept: Bool[Tensor, " token"]) -> Prompt:
    """Return a prompt in which every row sees only some of the image tokens; positions are counted as if the others did not exist."""
    # Masking as padding, with positions counted over what is left, equals the shorter sequence; cutting the tokens out would need the
    # image features cut inside the model, which every family does differently.
    mask = prompt.inputs["attention_mask"].clone()
    hidden = torch.tensor(prompt.layout.positions(Segment.IMAGE))[~kept]
    mask[0, hidden.to(mask.device)] = 0
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    return replace(prompt, inputs={**prompt.inputs, "attention_mask": mask, "position_ids": positions})


@final
@dataclass(frozen=True, eq=False)
class ShowPatches(Intervention):
    """Let a Q-Former attend to some patches only, chosen for each image of the batch; the class token in front of them is hidden."""

    shown: Bool[Tensor, "image key"]
    part: ClassVar[str] = "cross"
    site: ClassVar[str] = "attn_scores"

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Return the scores with those of the other patches masked."""
        hidden = torch.nn.functional.pad(~self.shown, (1, 0), value=True)
        return forbid(value, hidden.to(value.device)[:, None, None])
