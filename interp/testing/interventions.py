"""The checks of interventions and methods, for those who write one: `check_intervention`, `check_method`."""

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
    """Return the outcome of every check on an intervention; one that fails carries the reason in `detail`.

    Checked are: the neutral setting leaves the logits bit-equal and a strong one changes them; no row depends on later tokens; a
    left-padded batch equals single prompts; cached decoding equals one teacher-forced pass; the first generated token is already
    under the intervention; nothing stays on the model, also after an exception.

    Args:
        model: a model that the intervention fits; a tiny one is enough.
        change: the intervention, in a setting strong enough to matter.
        neutral: the same in a setting that changes nothing; None if it has none.
        prompts: two prompts of different lengths; made up by default, with token 0 marked as a sink.
        first: whether it already acts on the first generated token; False for one that needs a reply to act on.
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
    """Return the outcome of every check on a method; see `check_intervention` for the checks and the arguments.

    A method without interventions, which acts on the choice of tokens only, is checked in decoding only.
    """
    given = prompts or [p.marked(sink=(0,)) for p in sample_prompts(model)]
    settled = resolve(model, given, [method])
    edits = tuple(c for c in settled.interventions if not c.read_only)
    idle = () if neutral is None or not edits else resolve(model, given, [neutral]).interventions
    return check_trial(Trial(model, tuple(settled.prompts), method, neutral, edits, idle, first))
