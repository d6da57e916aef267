"""`measure`: analyses reduced layer by layer while the model runs."""

import functools
import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, overload

from tqdm import tqdm

from interp.analysis.base import Analysis, View
from interp.analysis.reduction import Reduction
from interp.arguments import (
    Interventions,
    check_settings,
    expect_model,
    list_analyses,
    list_interventions,
    list_prompts,
)
from interp.data.deprecation import renamed_keyword
from interp.data.prompt import Prompt
from interp.data.result import Result
from interp.data.results import Failure, Samples
from interp.data.tokens import EVERY, PREDICTING, tokens
from interp.interventions.base import Intervention
from interp.interventions.method import Method, resolve_for_pass
from interp.models.model import Model
from interp.passes.checkpointing import RepetitionError
from interp.passes.memory import afford
from interp.passes.plan import Plan, Wanted, plan
from interp.passes.target import Target, check_target

if TYPE_CHECKING:
    # One overload for each number of analyses, so that a type checker knows what `measure` returns. For type checkers alone:
    # the run-time checks of the tests do not understand a tuple that is unpacked in a signature.
    _A = TypeVar("_A", bound=Result)
    _B = TypeVar("_B", bound=Result)
    _C = TypeVar("_C", bound=Result)
    _D = TypeVar("_D", bound=Result)
    _E = TypeVar("_E", bound=Result)
    _Two = tuple[Analysis[_A], Analysis[_B]]
    _Three = tuple[Analysis[_A], Analysis[_B], Analysis[_C]]
    _Four = tuple[Analysis[_A], Analysis[_B], Analysis[_C], Analysis[_D]]
    _Five = tuple[Analysis[_A], Analysis[_B], Analysis[_C], Analysis[_D], Analysis[_E]]

    class MeasureOptions(TypedDict, total=False):
        """The keywords of `measure`, for its overloads."""

        interventions: Interventions
        target: Target | None
        recompute: bool | None
        progress: bool


if TYPE_CHECKING:

    @overload
    def measure(model: Model, prompts: Prompt, analysis: Analysis[_A], /, **options: Unpack[MeasureOptions]) -> _A: ...
    @overload
    def measure(
        model: Model, prompts: Prompt, *analyses: *_Two[_A, _B], **options: Unpack[MeasureOptions]
    ) -> tuple[_A, _B]: ...
    @overload
    def measure(
        model: Model, prompts: Prompt, *analyses: *_Three[_A, _B, _C], **options: Unpack[MeasureOptions]
    ) -> tuple[_A, _B, _C]: ...
    @overload
    def measure(
        model: Model, prompts: Prompt, *analyses: *_Four[_A, _B, _C, _D], **options: Unpack[MeasureOptions]
    ) -> tuple[_A, _B, _C, _D]: ...
    @overload
    def measure(
        model: Model, prompts: Prompt, *analyses: *_Five[_A, _B, _C, _D, _E], **options: Unpack[MeasureOptions]
    ) -> tuple[_A, _B, _C, _D, _E]: ...
    @overload
    def measure(
        model: Model, prompts: Sequence[Prompt], analysis: Analysis[_A], /, **options: Unpack[MeasureOptions]
    ) -> Samples[_A]: ...
    @overload
    def measure(
        model: Model, prompts: Sequence[Prompt], *analyses: *_Two[_A, _B], **options: Unpack[MeasureOptions]
    ) -> tuple[Samples[_A], Samples[_B]]: ...
    @overload
    def measure(
        model: Model, prompts: Sequence[Prompt], *analyses: *_Three[_A, _B, _C], **options: Unpack[MeasureOptions]
    ) -> tuple[Samples[_A], Samples[_B], Samples[_C]]: ...
    @overload
    def measure(
        model: Model, prompts: Sequence[Prompt], *analyses: *_Four[_A, _B, _C, _D], **options: Unpack[MeasureOptions]
    ) -> tuple[Samples[_A], Samples[_B], Samples[_C], Samples[_D]]: ...
    @overload
    def measure(
        model: Model,
        prompts: Sequence[Prompt],
        *analyses: *_Five[_A, _B, _C, _D, _E],
        **options: Unpack[MeasureOptions],
    ) -> tuple[Samples[_A], Samples[_B], Samples[_C], Samples[_D], Samples[_E]]: ...
    @overload
    def measure(
        model: Model, prompts: Prompt | Sequence[Prompt], *analyses: Analysis | str, **options: Unpack[MeasureOptions]
    ) -> Any: ...


@renamed_keyword("changes", "interventions")
def measure(
    model: Model,
    prompts: Prompt | Sequence[Prompt],
    *analyses: Analysis | str,
    interventions: Interventions = (),
    target: Target | None = None,
    recompute: bool | None = None,
    progress: bool = True,
) -> Any:
    """Run the model and return the result of every analysis; each layer is reduced when it arrives and let go.

    One pass serves all analyses, but where layers run twice (`recompute`): there a forward pass of their own serves those without
    gradients, so that what only they read is never part of a graph.

    Args:
        model: the model.
        prompts: a conversation, or several.
        analyses: what to find out.
        interventions: interventions to run under.
        target: what gradients are of, where an analysis needs those of one target.
        recompute: whether to run each layer a second time in the backward pass, where there is one. The numbers are the same; it takes
            one more forward pass, and memory for the graph of one layer instead of all. By default it does where that graph would hold
            more than 256 MiB (`interp.passes.memory.WHOLE_GRAPH`) and the interventions allow it. They do not when they hold a random
            generator or are any function (`Apply`), unless `True` says that the function does the same thing each time, or when they carry
            something from one layer to another (CLVA's visual anchors).
        progress: whether to show a bar over several prompts.

    Returns:
        One result for one analysis, a tuple of them for several. For several prompts each result is a `Samples`.

    Raises:
        ValueError: no analysis, one that needs gradients without a target, or analyses whose gradients need two passes; `recompute=True`
            under interventions that do not allow it.
    """
    check_settings(recompute=recompute, progress=progress)
    one = functools.partial(
        _measured,
        expect_model(model),
        analyses=list_analyses(analyses),
        interventions=list_interventions(interventions),
        target=check_target(target),
        recompute=recompute,
    )
    several = list_prompts(prompts)
    if isinstance(prompts, Prompt):
        found = one(prompts)
        return found[0] if len(found) == 1 else found
    done: dict[int, tuple[Result, ...]] = {}
    failed = []
    for index, prompt in enumerate(tqdm(several, desc="measure", disable=not progress, leave=False)):
        try:
            done[index] = one(prompt)
        except (ValueError, IndexError, ArithmeticError, MemoryError) as error:
            failed.append(Failure(index, f"{type(error).__name__}: {error}"))
    each = [Samples(tuple(r[i] for r in done.values()), tuple(done), tuple(failed)) for i in range(len(analyses))]
    return each[0] if len(each) == 1 else tuple(each)


def _measured(
    model: Model,
    prompt: Prompt,
    *,
    analyses: Sequence[Analysis],
    interventions: Sequence[Intervention | Method],
    target: Target | None,
    recompute: bool | None,
) -> tuple[Result, ...]:
    settled = resolve_for_pass(model, prompt, interventions)
    prompt = settled.prompts[0]

    def planned(some: Sequence[Analysis], aim: Target | None) -> Plan:
        return plan(model, prompt, replace(_wanted(some, aim), recompute=recompute), settled.interventions)

    def found(some: Sequence[Analysis], what: Plan) -> tuple[Result, ...]:
        view = replace(model.view(prompt), queries=what.queries)
        try:
            return _reduced(what, some, view)
        except RepetitionError as error:
            if recompute:
                raise ValueError(
                    f"recompute=True is not possible: {error}; leave it out, or give recompute=False"
                ) from error
        return _reduced(replace(what, recompute=False), some, view)

    whole = planned(analyses, target)
    plain = [a for a in analyses if not a.grad]
    if not whole.twice or not plain:
        return found(analyses, whole)
    graded = [a for a in analyses if a.grad]  # first: beside their streams nothing else is held then
    each = iter(found(graded, planned(graded, target))), iter(found(plain, planned(plain, None)))
    return tuple(next(each[not a.grad]) for a in analyses)


def _reduced(what: Plan, analyses: Sequence[Analysis], view: View) -> tuple[Result, ...]:
    afford(what.estimate(keeps=False))
    reduction = Reduction(analyses, view)
    what.run(reduction.take)
    return reduction.results()


def _wanted(analyses: Sequence[Analysis], target: Target | None) -> Wanted:
    """Return what several analyses need of one pass."""
    want, grad = (frozenset().union(*(getattr(a, n) for a in analyses)) for n in ("want", "grad"))
    kinds = {a.gradient for a in analyses if a.grad}
    if len(kinds) > 1:
        raise ValueError(
            "some of these analyses need the gradient of one target, others that of every token: measure them in two calls"
        )
    selections = list(dict.fromkeys(tokens(a.rows) for a in analyses))
    every = EVERY if EVERY in selections else functools.reduce(operator.or_, selections)
    if "position" in kinds:
        every = (
            every | PREDICTING
        )  # every row where some analysis asks for it; `capture` means these rows alone by EVERY
    return Wanted(want, grad, target, every, None, kinds.pop() if kinds else "full")
