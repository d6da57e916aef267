"""Checks that anyone can call on their own model, intervention or method."""

from collections.abc import Mapping, Sequence
from typing import Any

from interp.conformance import CHECKS, Check, check, parts_of
from interp.interventions import Intervention
from interp.method import Method, resolved
from interp.model import Model
from interp.planted import Planted, planted_sink
from interp.prompt import Prompt
from interp.trials import Trial, check_trial

__all__ = [
    "Check",
    "Planted",
    "check_family",
    "check_intervention",
    "check_method",
    "check_model",
    "conformance_page",
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


def check_intervention(
    model: Model,
    change: Intervention,
    neutral: Intervention | None = None,
    prompts: Sequence[Prompt] | None = None,
    *,
    first: bool = True,
) -> list[Check]:
    """Return the result of every check on an intervention.

    Args:
        model: a model it fits.
        change: the intervention, in a setting strong enough to matter.
        neutral: the same in the setting that changes nothing.
        prompts: two prompts of different lengths; made up by default, with token 0 marked as a sink.
        first: whether the first generated token is under it already; False for one that needs a reply to act on.
    """
    given = prompts or [p.marked(sink=(0,)) for p in sample_prompts(model)]
    return check_trial(
        Trial(model, tuple(given), change, neutral, (change,), () if neutral is None else (neutral,), first)
    )


def check_method(
    model: Model,
    method: Method,
    neutral: Method | None = None,
    prompts: Sequence[Prompt] | None = None,
    *,
    first: bool = True,
) -> list[Check]:
    """Return the result of every check on a method; see `check_intervention`.

    A method without interventions, which acts on the choice of tokens alone, is checked in decoding only.
    """
    given = prompts or [p.marked(sink=(0,)) for p in sample_prompts(model)]
    settled = resolved(model, given, [method])
    edits = tuple(c for c in settled.interventions if not c.watches)
    idle = () if neutral is None or not edits else resolved(model, given, [neutral]).interventions
    return check_trial(Trial(model, tuple(settled.prompts), method, neutral, edits, idle, first))


def conformance_page(done: Mapping[tuple[str, str], Sequence[Check]]) -> str:
    """Return what `check_family` found as a page in Markdown: a table of families and checks, and why what failed did.

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
            "`interp models --check --markdown docs/models.md`; `interp.testing.check_model` runs the same checks on any model.",
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
