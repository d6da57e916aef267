"""VCD: contrasts the logits with those for the same image under noise."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.data.prompt import Prompt
from interp.decoding.second_stream import SecondStream, check_strength
from interp.decoding.stream import Continuation

NOISE_STEPS = 1000
"""Number of steps of the noise schedule."""


@final
@dataclass(frozen=True)
class Vcd(SecondStream):
    """Visual contrastive decoding: `Contrast` with the image under the noise of a diffusion process.

    The processed pixels x, as the model receives them, become √ᾱ_t x + √(1 - ᾱ_t) ε with ε standard normal, ᾱ_t the product of
    1 - β_i up to step t, and β_i = σ(s_i) (0.005 - 10⁻⁵) + 10⁻⁵ for s_i evenly from -6 to 6 in 1000 steps.

    Args:
        alpha: strength of the contrast; 0 is neutral together with `beta=0`.
        beta: plausibility bound: the smallest probability of an admissible token, as a share of the largest one.
        noise: the step t, 0 to 999; at 999 almost nothing of the image is left.
        seed: seed of the noise, which is the same for every prompt with pixels of the same shape.

    References: Leng et al., VCD (CVPR 2024), and its released code. Differs: greedy decoding too, where the code changes only
    sampling; the noise has a seed of its own.
    """

    alpha: float = 1.0
    beta: float = 0.1
    noise: int = 500
    seed: int = 0
    on_image: ClassVar[str] = "it puts noise on an image"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: a negative alpha, beta outside [0, 1], or a step that the schedule does not have.
        """
        check_strength(self.alpha, self.beta)
        if not 0 <= self.noise < NOISE_STEPS:
            raise ValueError(f"noise is a step of the schedule, 0 to {NOISE_STEPS - 1}, got {self.noise}")

    def stream(self, model: Any, prompts: Sequence[Prompt]) -> Continuation:
        """Return the stream of the noised prompts."""
        frames = getattr(getattr(model.config, "vision_config", None), "temporal_patch_size", 1)
        return Continuation(model, [self.add_noise(p, frames) for p in prompts])

    def add_noise(self, prompt: Prompt, frames: int = 1) -> Prompt:
        """Return a prompt with noise on its pixels.

        Args:
            prompt: a prompt with an image.
            frames: how many times a patch repeats its pixels, where a processor returns flat patches of short videos (Qwen-VL).
        """
        pixels = {n: v for n, v in prompt.inputs.items() if n.endswith("pixel_values") and v.is_floating_point()}
        return replace(prompt, inputs={**prompt.inputs, **{n: self._noise(v, frames) for n, v in pixels.items()}})

    def _noise(self, pixels: Tensor, frames: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        shape = (len(pixels), 3, 1, pixels.shape[1] // (3 * frames)) if pixels.ndim == 2 else pixels.shape
        drawn = torch.randn(shape, generator=generator)
        if (
            pixels.ndim == 2
        ):  # a still image is repeated for every frame of a patch, and every copy must get the same noise
            drawn = drawn.expand(-1, -1, frames, -1).reshape(pixels.shape)
        kept = signal_share()[self.noise]
        return (kept.sqrt() * pixels.float() + (1 - kept).sqrt() * drawn.to(pixels.device)).to(pixels.dtype)


def signal_share() -> Float[Tensor, " step"]:
    """Return ᾱ of every step: the share of the image's variance that is left. It falls from nearly 1 to nearly 0."""
    rates = torch.linspace(-6, 6, NOISE_STEPS).sigmoid() * (0.5e-2 - 1e-5) + 1e-5
    return (1 - rates).cumprod(0)
