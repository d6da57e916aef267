"""`capture` and `measure`: one pass through the model, forward and, where gradients are asked for, backward."""

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, final, overload

import torch
from torch import Tensor
from tqdm import tqdm

from interp.analysis import Analysis, View
from interp.analysis.reduction import Reduction
from interp.data import EVERY, PREDICTING, Selector, tokens
from interp.interventions import Intervention
from interp.memory import Estimate, afford
from interp.method import Method, for_one_pass
from interp.model import Model
from interp.plan import Plan, Wanted, plan
from interp.prompt import Capture, Prompt
from interp.recomputation import RepetitionError
from interp.result import Result, check_finite
from interp.samples import Failure, Samples
from interp.target import Target


@overload
def capture(model: Model, prompt: Prompt, *, estimate: Literal[True], **wanted: Any) -> Estimate: ...
@overload
def capture(model: Model, prompt: Prompt, *, estimate: Literal[False] = False, **wanted: Any) -> Capture: ...
@overload
def capture(model: Model, prompt: Prompt, *, estimate: bool, **wanted: Any) -> Capture | Estimate: ...
def capture(  # type: ignore[misc]  # noqa: PLR0913  # a verb: every setting has a default and is named
    model: Model,
    prompt: Prompt,
    *,
    want: Iterable[str] = ("pattern",),
    grad: Iterable[str] = (),
    target: Target | None = None,
    queries: Selector = EVERY,
    layers: Iterable[int] | None = None,
    changes: Sequence[Intervention | Method] = (),
    gradient: Literal["full", "position"] = "full",
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    estimate: bool = False,
) -> Capture | Estimate:
    """Run the model once and return the arrays asked for.

    Args:
        model: the model.
        prompt: the conversation, with a reply where the target is a response token.
        want: sites to keep (`AXES` lists them with their axes), `logits`, or attention of the other parts as
            `vision.pattern`, `qformer.pattern`, `cross.pattern` (query, key: the Q-Former's look at the patches), all of its layers.
        grad: sites whose gradient of the loss to keep.
        target: what the gradients are of.
        queries: the query rows of scores and pattern to keep; the others stay on the fast path.
        layers: the layers to keep; all by default.
        changes: interventions to run under.
        gradient: `full` is the gradient of one loss. `position` needs a reply and no target: every response token's own
            gradient in the row that emits it, all from one backward pass; `queries` are then those rows.
        device: where to keep the arrays.
        dtype: in what type; the model's by default.
        estimate: return an `Estimate` of the memory it takes instead, without running.

    Raises:
        ValueError: an unknown site, a layer that is not there, gradients without a target, a target without a reply.
        IndexError: a target outside the reply.
        MemoryError: more than there is; says what to ask for instead.
        FloatingPointError: NaN or infinity, with site and layer.
    """
    settled = for_one_pass(model, prompt, changes)
    prompt = settled.prompts[0]
    chosen = None if layers is None else tuple(int(i) for i in layers)
    what = plan(
        model,
        prompt,
        Wanted(frozenset(want), frozenset(grad), target, queries, chosen, gradient),
        settled.interventions,
    )
    needs = what.estimate(None if dtype is None else torch.empty((), dtype=dtype).element_size())
    if estimate:
        return needs
    afford(needs)
    kept = _Arrays(what, torch.device(device), dtype)
    logits, others = what.run(kept.take, kept.room)
    arrays = kept.arrays
    if "logits" in what.want:
        arrays["logits"] = logits.to(device=device, dtype=dtype or logits.dtype)
    arrays.update({n: a.to(device=device, dtype=dtype or a.dtype) for n, a in _other_parts(others).items()})
    said = "" if what.loss is None else "every response token, each in its own row" if what.local else str(target)
    sizes = {"heads": model.heads, "kv_heads": model.kv_heads, "head_dim": model.head_dim, "dim": model.dim}
    return Capture(arrays, prompt.layout, prompt.tokens, prompt.ids, what.layers, what.queries, said, model.name, sizes)


@final
@dataclass(frozen=True)
class _Arrays:
    """What a capture keeps, with the layers side by side: every value is put into its place as it comes.

    Args:
        what: the pass.
        device: where they are kept.
        dtype: in what type; each in its own by default.
    """

    what: Plan
    device: torch.device
    dtype: torch.dtype | None
    arrays: dict[str, Tensor] = field(default_factory=dict)

    def take(self, site: str, layer: int, value: Tensor, slope: Tensor | None) -> None:
        """Keep a value and its gradient."""
        if site in self.what.want:
            self._keep(site, layer, value)
        if slope is not None:
            self._keep(f"{site}_grad", layer, slope)

    def room(self, name: str, layer: int, shape: torch.Size) -> Tensor | None:
        """Return where a pattern or its gradient is kept that is kept as it is made."""
        kept = "pattern" in (self.what.want if name == "pattern" else self.what.grad) and layer in self.what.layers
        whole = kept and shape[2] == len(self.what.queries)
        return self._place(name, layer, shape[1:], self.what.model.dtype)[None] if whole else None

    def _place(self, name: str, layer: int, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        if name not in self.arrays:
            whole = len(self.what.layers), *shape
            self.arrays[name] = torch.empty(whole, device=self.device, dtype=self.dtype or dtype)
        return self.arrays[name][self.what.layers.index(layer)]

    def _keep(self, name: str, layer: int, value: Tensor) -> None:
        check_finite({name: value}, layer)
        place = self._place(name, layer, value.shape, value.dtype)
        if place.data_ptr() != value.data_ptr():
            place.copy_(value)


def measure(
    model: Model,
    prompts: Prompt | Sequence[Prompt],
    *analyses: Analysis,
    changes: Sequence[Intervention | Method] = (),
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
        changes: interventions to run under.
        target: what gradients are of, where an analysis needs those of one target.
        recompute: whether to run each layer a second time in the backward pass, where there is one. The numbers are the same; it takes
            one more forward pass, and memory for the graph of one layer instead of all. By default it does where that graph
            would hold more than 256 MiB (`interp.memory.WHOLE_GRAPH`) and the changes allow it. They do not when they hold a random
            generator or are any function (`Apply`), unless `True` says that the function does the same thing each time, or when they carry
            something from one layer to another (CLVA's anchors).
        progress: whether to show a bar over several prompts.

    Returns:
        One result for one analysis, a tuple of them for several. For several prompts each result is a `Samples`.

    Raises:
        ValueError: no analysis, one that needs gradients without a target, or analyses whose gradients need two passes; `recompute=True`
            under changes that do not allow it.
    """
    if not analyses:
        raise ValueError("measure needs at least one analysis, for example interp.analysis.sinks.Sinks()")
    one = functools.partial(_measured, model, analyses=analyses, changes=changes, target=target, recompute=recompute)
    if isinstance(prompts, Prompt):
        found = one(prompts)
        return found[0] if len(found) == 1 else found
    done: dict[int, tuple[Result, ...]] = {}
    failed = []
    for index, prompt in enumerate(tqdm(prompts, desc="measure", disable=not progress, leave=False)):
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
    changes: Sequence[Intervention | Method],
    target: Target | None,
    recompute: bool | None,
) -> tuple[Result, ...]:
    settled = for_one_pass(model, prompt, changes)
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
                    f"recompute=True cannot be had: {error}; leave it out, or say recompute=False"
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


def _other_parts(kept: Mapping[tuple[str, str, int], list[Tensor]]) -> dict[str, Tensor]:
    """Return the vision tower's and the Q-Former's arrays: layer head query key, or layer chunk head query key for several images.

    Where the shapes differ from layer to layer or chunk to chunk, as in windows, each is kept by itself: `vision.pattern.3.0` is the
    first chunk of layer 3.
    """
    sites: dict[str, dict[int, list[Tensor]]] = {}
    for (part, site, layer), chunks in sorted(kept.items(), key=lambda item: item[0][2]):
        sites.setdefault(f"{part}.{site}", {})[layer] = chunks
    arrays = {}
    for name, layers in sites.items():
        if (
            len({tuple(c.shape for c in chunks) for chunks in layers.values()})
            == 1
            == len({c.shape for c in layers[0]})
        ):
            whole = torch.stack([torch.cat(chunks) for chunks in layers.values()])
            arrays[name] = whole[:, 0] if whole.shape[1] == 1 else whole
        else:
            arrays |= {
                f"{name}.{i}.{n}": c[0] if len(c) == 1 else c
                for i, chunks in layers.items()
                for n, c in enumerate(chunks)
            }
    return arrays
