"""The checks of models and families, for those who add one: `check_model`, `check_family`; `conformance_page` tabulates them."""

from collections.abc import Mapping, Sequence
from typing import Any

from interp.checks.base import Check
from interp.checks.model import CHECKS, check
from interp.data.prompt import Prompt
from interp.models.model import Model


def sample_prompts(model: Model) -> list[Prompt]:
    """Return two prompts of different lengths, each with an image if the model takes images."""
    import numpy as np

    generator = np.random.default_rng(0)
    images: list[Any] = [None, None]
    if model.family.image_token is not None:
        images = [generator.integers(0, 255, size, dtype=np.uint8) for size in ((40, 56, 3), (56, 40, 3))]
    texts = ("What is this?", "What can be seen here, and where is it?")
    return [model.prepare(i, t) for i, t in zip(images, texts, strict=True)]


def check_model(model: Model, prompts: Sequence[Prompt] | None = None) -> list[Check]:
    """Return the outcome of every conformance check on a model; one that fails carries the reason in `detail`.

    Checked are: with every tap read, logits are bit-equal to eager attention, and with none to sdpa; patterns and gradients equal
    plain autograd; an intervention at every site changes the logits; batched equals single, cached equals uncached; nothing stays
    on the model. `docs/models.md` explains each check.

    Args:
        model: the model.
        prompts: two or more of different lengths; made up by default.
    """
    return check(model, sample_prompts(model) if prompts is None else prompts)


def check_family(model_type: str, dtype: Any = None) -> list[Check]:
    """Return the outcome of every conformance check on the tiny random model of a family; see `check_model`.

    Raises:
        LookupError: an unknown family, or one without a tiny model.
    """
    from interp.families.base import family
    from interp.loading import load

    tiny = family(model_type).tiny
    if tiny is None:
        raise LookupError(
            f"the family {model_type} has no tiny model: give Family.tiny, or call check_model with a model of yours"
        )
    module, processor = tiny()
    return check_model(load(module if dtype is None else module.to(dtype), processor=processor))


def conformance_page(done: Mapping[tuple[str, str], Sequence[Check]]) -> str:
    """Return the outcomes of `check_family` as a Markdown page: a table of families and checks, and the reasons of failures.

    Args:
        done: the checks by model type and floating-point type.
    """
    names = list(dict.fromkeys(c.name for checks in done.values() for c in checks))
    meant = {name: (CHECKS[name].__doc__ or "").split("\n")[0] for name in names if name in CHECKS}
    rows = [
        f"| {kind} | {dtype} | {' | '.join('✓' if c.passed else '✗' for c in checks)} |"
        for (kind, dtype), checks in done.items()
    ]
    reasons = [
        f"- {kind} {dtype}, {c.name}: {(c.detail or 'failed').splitlines()[0]}"
        for (kind, dtype), checks in done.items()
        for c in checks
        if not c.passed
    ]
    return "\n".join(
        [
            "# Models",
            "",
            "Every family of models, checked on a tiny model of its kind with random weights and the real processor. This page is made by",
            "`interp models --check --markdown docs/models.md`; `interp.testing.models.check_model` runs the same checks on any model.",
            "",
            *(f"- **{name}**: {text}" for name, text in meant.items()),
            "",
            f"| model type | precision | {' | '.join(names)} |",
            f"|---|---|{'---|' * len(names)}",
            *rows,
            "",
            *(["## What failed", "", *reasons, ""] if reasons else []),
        ]
    )
