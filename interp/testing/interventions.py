"""Checks of interventions and methods, for those who write one."""

from collections.abc import Sequence

from interp.checks.base import Check
from interp.checks.change import Trial, check_trial
from interp.data.prompt import Prompt
from interp.interventions.base import Intervention
from interp.interventions.method import Method, resolve
from interp.models.model import Model
from interp.testing.models import sample_prompts


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
    settled = resolve(model, given, [method])
    edits = tuple(c for c in settled.interventions if not c.read_only)
    idle = () if neutral is None or not edits else resolve(model, given, [neutral]).interventions
    return check_trial(Trial(model, tuple(settled.prompts), method, neutral, edits, idle, first))
