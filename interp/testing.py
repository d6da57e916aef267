"""Checks that anyone can call on their own model, intervention or analysis."""

from collections.abc import Sequence
from typing import Any

from interp.conformance import Check, check, parts_of
from interp.model import Model
from interp.planted import Planted, planted_sink
from interp.prompt import Prompt

__all__ = [
    "Check",
    "Planted",
    "check_family",
    "check_model",
    "parts_of",
    "planted_sink",
    "sample_prompts",
]


def sample_prompts(model: Model) -> list[Prompt]:
    """Return two prompts of different lengths, with an image each where the model takes one."""
    import numpy as np

    generator = np.random.default_rng(0)
    images: list[Any] = [None, None]
    if model.family.image_token is not None:
        images = [generator.integers(0, 255, size, dtype=np.uint8) for size in ((40, 56, 3), (56, 40, 3))]
    texts = ("What is this?", "What can be seen here, and where is it?")
    return [model.prepare(i, t) for i, t in zip(images, texts, strict=True)]


def check_model(model: Model, prompts: Sequence[Prompt] | None = None) -> list[Check]:
    """Return the result of every conformance check on a model.

    Args:
        model: the model.
        prompts: two or more of different lengths; made up by default.
    """
    return check(model, sample_prompts(model) if prompts is None else prompts)


def check_family(model_type: str, dtype: Any = None) -> list[Check]:
    """Return the result of every conformance check on the tiny random model of a family.

    Raises:
        LookupError: no such family, or one without a tiny model.
    """
    from interp.families import family
    from interp.loading import load

    tiny = family(model_type).tiny
    if tiny is None:
        raise LookupError(
            f"the family {model_type} has no tiny model: give Family.tiny, or call check_model with a model of yours"
        )
    module, processor = tiny()
    return check_model(load(module if dtype is None else module.to(dtype), processor=processor))
