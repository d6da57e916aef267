"""The check of analyses, for those who write one: `check_analysis`."""

from collections.abc import Sequence

from interp.analysis.base import Analysis
from interp.checks.analysis import AnalysisTrial, check_analysis_trial
from interp.checks.base import Check
from interp.data.prompt import Prompt
from interp.models.model import Model
from interp.passes.target import Target
from interp.testing.models import sample_prompts


def check_analysis(
    model: Model, analysis: Analysis, prompts: Sequence[Prompt] | None = None, *, target: Target | None = None
) -> list[Check]:
    """Return the outcome of every check on an analysis; one that fails carries the reason in `detail`.

    Checked are: settings are frozen; the sites it reads are the ones it declares; the axes of its result are named and come from the
    closed list; its numbers are finite; a saved capture gives the numbers of a running pass, and so do layers in either order;
    its inputs are not overwritten; measuring again gives the same numbers; several prompts give a `Samples`; the result survives
    saving and loading, and gives tables; a conversation without a reply or an image gives a result or a clear error.

    Example: `assert all(check.passed for check in check_analysis(model, Sinks()))`.

    Args:
        model: a model the analysis fits; a tiny one will do, see `interp.families.base.Family.tiny`.
        analysis: the analysis with its settings.
        prompts: two or more conversations of different lengths, with a reply where it needs one; made up by default, with a reply, an
            image where the model takes one, and token 0 marked as a sink.
        target: what its gradients are of, where it needs those of one target; the first response token by default.

    Raises:
        ValueError: fewer than two prompts.
    """
    return check_analysis_trial(analysis_trial(model, analysis, prompts, target))


def analysis_trial(
    model: Model, analysis: Analysis, prompts: Sequence[Prompt] | None = None, target: Target | None = None
) -> AnalysisTrial:
    """Return what the checks are run on; see `check_analysis`."""
    replies = ("a small cat", "two dogs, one of them black")
    given = prompts or [
        p.with_response(reply).marked(sink=(0,)) for p, reply in zip(sample_prompts(model), replies, strict=True)
    ]
    if len(given) < 2:
        raise ValueError(
            f"check_analysis compares conversations of different lengths: give at least two, got {len(given)}"
        )
    aim = 0 if target is None and analysis.grad and analysis.gradient == "full" else target
    return AnalysisTrial(model, tuple(given), analysis, aim)
