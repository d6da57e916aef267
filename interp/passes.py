"""`capture` and `measure`: one pass through the model, forward and, where gradients are asked for, backward."""

import functools
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, final

import torch
from torch import Tensor
from tqdm import tqdm

from interp.analysis import Analysis, restricted
from interp.data import EVERY, PREDICTING, Segment, Selector, Tokens, tokens
from interp.interventions import SITES, Intervention
from interp.method import Method, resolved
from interp.model import Model
from interp.prompt import Capture, Prompt
from interp.result import Result, check_finite
from interp.running import run
from interp.samples import Failure, Samples
from interp.taps import OTHER_PARTS, tap_path
from interp.trace import forward, forward_and_backward

LAYERED = tuple(s for s in SITES if s != "logits")


@final
@dataclass(frozen=True)
class Position:
    """A target by its position in the conversation: the loss is -ln p(token at `at` | everything before), in nats.

    Args:
        at: the position of the token; the length of the prompt stands for the token that would come next.
        token: its id; the token that stands there by default.
    """

    at: int
    token: int | None = None


Target = int | Position | Callable[[Tensor], Tensor]
"""What gradients are of: a response token by its index, a position, or a function from logits (token, vocab) to a scalar."""


@final
@dataclass(frozen=True)
class Estimate:
    """How much memory a capture takes, in bytes.

    Args:
        kept: what is returned.
        during: what the pass holds beyond the weights at its fullest, roughly.
        available: what is free where the model is.
    """

    kept: int
    during: int
    available: int

    def __str__(self) -> str:
        """Say it in gigabytes."""
        kept, during, available = (x / 2**30 for x in (self.kept, self.during, self.available))
        return f"keeps {kept:.2f} GiB, holds about {during:.2f} GiB during the pass, {available:.1f} GiB are free"


@final
@dataclass(frozen=True)
class _Plan:
    """A capture or measurement, settled: what is read where, and what the gradients are of."""

    model: Model
    prompt: Prompt
    want: frozenset[str]
    grad: frozenset[str]
    layers: tuple[int, ...]
    rows: Tokens
    queries: tuple[int, ...]
    loss: Callable[[Tensor], Tensor] | None
    local: bool
    changes: tuple[Intervention, ...] = ()
    paths: dict[str, tuple[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Lay out the taps in forward order."""
        sites = self.want | self.grad
        for layer in self.layers:
            self.paths.update({tap_path(self.model.family, s, layer): (s, layer) for s in LAYERED if s in sites})

    def run(self, visit: Callable[[str, int, Tensor, Tensor | None], None]) -> tuple[Tensor, Mapping[tuple[str, str, int], list[Tensor]]]:
        """Run the pass; every value and gradient is handed over as it comes. Returns the logits and the other parts' values."""
        parts = frozenset(tuple(n.split(".", 1)) for n in self.want if "." in n)
        wanted = frozenset(("decoder", s) for s in (self.want | self.grad) if "." not in s) | parts
        now = self.model.running(
            [self.prompt], self.changes, wanted=wanted, layers=frozenset(self.layers), rows=self.rows, gradient=self.loss is not None, local=self.local
        )
        inputs = self.model.inputs([self.prompt])
        reads = list(self.paths)

        def hand_over(path: str, value: Tensor, gradient: Tensor | None) -> None:
            visit(*self.paths[path], value[0], None if gradient is None else gradient[0])

        with run(now):
            if self.loss is None:
                logits = forward(self.model.seen, inputs, reads, hand_over)
            else:
                loss, graded = self.loss, frozenset(p for p, (s, _) in self.paths.items() if s in self.grad)
                logits = forward_and_backward(self.model.seen, inputs, reads, graded, lambda x: loss(x[0]), hand_over)
        return logits[0], now.kept

    def estimate(self, itemsize: int | None = None) -> Estimate:
        """Return how much memory this takes."""
        m, tokens_, rows = self.model, len(self.prompt), len(self.queries)
        sizes = {
            **dict.fromkeys(("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"), tokens_ * m.dim),
            **dict.fromkeys(("q", "z"), tokens_ * m.heads * m.head_dim),
            **dict.fromkeys(("k", "v"), tokens_ * m.kv_heads * m.head_dim),
            **dict.fromkeys(("attn_scores", "pattern"), m.heads * rows * tokens_),
        }
        size = torch.empty((), dtype=m.dtype).element_size()
        counted = [s for s in (*self.want, *self.grad) if s in sizes]
        kept = len(self.layers) * sum(sizes[s] for s in counted) * (itemsize or size)
        attention = m.heads * rows * tokens_ * size * 4
        stream = tokens_ * m.dim * size * 12
        during = kept + (m.layers if self.loss is not None else 1) * (attention + stream)
        return Estimate(kept, during, _available(m.device))


def capture(
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
            `vision.pattern`, `qformer.pattern`, `cross.pattern` (query, key: the Q-Former's look at the patches).
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
    settled = resolved(model, [prompt], changes)
    prompt = settled.prompts[0]
    plan = _plan(model, prompt, frozenset(want), frozenset(grad), target, queries, layers, settled.interventions, gradient)
    needs = plan.estimate(None if dtype is None else torch.empty((), dtype=dtype).element_size())
    if estimate:
        return needs
    _afford(needs)
    kept: dict[str, dict[int, Tensor]] = {}

    def keep(site: str, layer: int, value: Tensor, gradient_: Tensor | None) -> None:
        check_finite({site: value} if gradient_ is None else {site: value, f"{site}_grad": gradient_}, layer)
        if site in plan.want:
            kept.setdefault(site, {})[layer] = value.to(device=device, dtype=dtype or value.dtype, copy=True)
        if gradient_ is not None:
            kept.setdefault(f"{site}_grad", {})[layer] = gradient_.to(device=device, dtype=dtype or gradient_.dtype, copy=True)

    logits, others = plan.run(keep)
    arrays = {name: torch.stack([by_layer[i] for i in plan.layers]) for name, by_layer in kept.items()}
    if "logits" in plan.want:
        arrays["logits"] = logits.to(device=device, dtype=dtype or logits.dtype)
    arrays.update(_other_parts(others, device))
    said = "" if plan.loss is None else "every response token, each in its own row" if plan.local else str(target)
    sizes = {"heads": model.heads, "kv_heads": model.kv_heads, "head_dim": model.head_dim, "dim": model.dim}
    return Capture(arrays, prompt.layout, prompt.tokens, prompt.ids, plan.layers, plan.queries, said, model.name, sizes)


def measure(
    model: Model,
    prompts: Prompt | Sequence[Prompt],
    *analyses: Analysis,
    changes: Sequence[Intervention | Method] = (),
    target: Target | None = None,
    progress: bool = True,
) -> Any:
    """Run the model once and return the result of every analysis; each layer is reduced when it arrives and let go.

    Args:
        model: the model.
        prompts: a conversation, or several.
        analyses: what to find out.
        changes: interventions to run under.
        target: what gradients are of, where an analysis needs those of one target.
        progress: whether to show a bar over several prompts.

    Returns:
        One result for one analysis, a tuple of them for several. For several prompts each result is a `Samples`.

    Raises:
        ValueError: no analysis, one that needs gradients without a target, or analyses whose gradients need two passes.
    """
    if not analyses:
        raise ValueError("measure needs at least one analysis, for example interp.analysis.sinks.Sinks()")
    if isinstance(prompts, Prompt):
        found = _measured(model, prompts, analyses, changes, target)
        return found[0] if len(found) == 1 else found
    done: dict[int, tuple[Result, ...]] = {}
    failed = []
    for index, prompt in enumerate(tqdm(prompts, desc="measure", disable=not progress, leave=False)):
        try:
            done[index] = _measured(model, prompt, analyses, changes, target)
        except (ValueError, IndexError, ArithmeticError, MemoryError) as error:
            failed.append(Failure(index, f"{type(error).__name__}: {error}"))
    each = [Samples(tuple(r[i] for r in done.values()), tuple(done), tuple(failed)) for i in range(len(analyses))]
    return each[0] if len(each) == 1 else tuple(each)


def _measured(
    model: Model, prompt: Prompt, analyses: Sequence[Analysis], changes: Sequence[Intervention | Method], target: Target | None
) -> tuple[Result, ...]:
    settled = resolved(model, [prompt], changes)
    prompt, edits = settled.prompts[0], settled.interventions
    want, grad = (frozenset().union(*(getattr(a, n) for a in analyses)) for n in ("want", "grad"))
    kinds = {a.gradient for a in analyses if a.grad}
    if len(kinds) > 1:
        raise ValueError("some of these analyses need the gradient of one target, others that of every token: measure them in two calls")
    selections = list(dict.fromkeys(tokens(a.rows) for a in analyses))
    every = EVERY if EVERY in selections else functools.reduce(operator.or_, selections)
    plan = _plan(model, prompt, want, grad, target, every, None, edits, kinds.pop() if kinds else "full")
    _afford(plan.estimate())
    known = replace(model.view(prompt), queries=plan.queries)
    rows = [known.restricted_to(a.rows) for a in analyses]
    partials: list[dict[int, Any]] = [{} for _ in analyses]
    waiting: dict[int, dict[str, Tensor]] = {}
    complete = len(plan.want) + len(plan.grad)

    def take(site: str, layer: int, value: Tensor, gradient: Tensor | None) -> None:
        values = waiting.setdefault(layer, {})
        if site in plan.want:
            values[site] = value
        if gradient is not None:
            values[f"{site}_grad"] = gradient
        if len(values) == complete:
            check_finite(values, layer)
            for analysis, (some, view), found in zip(analyses, rows, partials, strict=True):
                found[layer] = analysis.reduce(restricted(values, some), replace(view, layer=layer))
            del waiting[layer]

    plan.run(take)
    return tuple(a.finish(dict(sorted(p.items())), view) for a, p, (_, view) in zip(analyses, partials, rows, strict=True))


def _plan(
    model: Model,
    prompt: Prompt,
    want: frozenset[str],
    grad: frozenset[str],
    target: Target | None,
    queries: Selector,
    layers: Iterable[int] | None,
    changes: tuple[Intervention, ...],
    gradient: str,
) -> _Plan:
    names = {*model.sites, *(f"{p}.{s}" for p in OTHER_PARTS for s in ("attn_scores", "pattern"))}
    unknown = sorted((want - names) | (grad - set(model.sites) - {"logits"}) | (grad & {"logits"}))
    if unknown:
        raise ValueError(f"{model.name} has no site {', '.join(unknown)} to read (gradients: decoder sites only); it has {', '.join(sorted(names))}")
    chosen = tuple(range(model.layers)) if layers is None else tuple(sorted({int(i) for i in layers}))
    if not chosen or chosen[0] < 0 or chosen[-1] >= model.layers:
        raise ValueError(f"layers {list(chosen)} are out of range: {model.name} has layers 0..{model.layers - 1}")
    local = gradient == "position"
    if gradient not in ("full", "position"):
        raise ValueError(f"gradient is 'full' or 'position', got {gradient!r}")
    loss = _loss(prompt, target, local) if grad else None
    if target is not None and not grad:
        raise ValueError("a target was given but no gradient asked for; add grad={'pattern'}, or leave the target out")
    rows = tokens(queries) if not local else PREDICTING if queries is EVERY else PREDICTING | queries
    positions = prompt.layout.positions(rows)
    if not positions:
        raise ValueError(f"queries={rows} take no token of this prompt")
    return _Plan(model, prompt, want, grad, chosen, rows, positions, loss, local, changes)


def _loss(prompt: Prompt, target: Target | None, local: bool) -> Callable[[Tensor], Tensor]:
    """Return the loss, in nats and float32, as a function of the logits (token, vocab)."""
    response = prompt.layout.positions(Segment.RESPONSE)
    ids = prompt.inputs["input_ids"][0]
    if local:
        if target is not None or not response:
            raise ValueError("gradient='position' is of every response token: give a prompt with a reply (prompt.with_response(...)) and no target")
        at, told = torch.tensor(response), ids[list(response)].cpu()
        return lambda logits: -logits[(at - 1).to(logits.device)].float().log_softmax(-1).gather(-1, told.to(logits.device)[:, None]).sum()
    if target is None:
        raise ValueError("gradients need a target: a response token (target=0), interp.Position(at), or a function of the logits")
    if callable(target):
        return lambda logits: _scalar(target(logits))
    if isinstance(target, int):
        if not response:
            raise ValueError("the target is a response token but the prompt has no reply; prompt.with_response(reply) adds one")
        if not -len(response) <= target < len(response):
            raise IndexError(f"target {target} is outside the reply of {len(response)} tokens (0..{len(response) - 1})")
        target = Position(response[target])
    if not 1 <= target.at <= len(ids) or (target.at == len(ids) and target.token is None):
        raise IndexError(f"position {target.at} cannot be a target in a conversation of {len(ids)} tokens: give 1..{len(ids) - 1}, or {len(ids)} with a token")
    row, token = target.at - 1, int(ids[target.at]) if target.token is None else target.token
    return lambda logits: -logits[row].float().log_softmax(-1)[token]


def _scalar(value: Tensor) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        raise ValueError(f"a target function returns one number computed from the logits, got {value!r:.80}")
    return value.reshape(())


def _other_parts(kept: Mapping[tuple[str, str, int], list[Tensor]], device: Any) -> dict[str, Tensor]:
    """Return the vision tower's and the Q-Former's arrays: layer head query key, or layer chunk head query key for several images."""
    layered: dict[str, list[Tensor]] = {}
    for (part, site, _), chunks in sorted(kept.items(), key=lambda item: item[0][2]):
        same = len({c.shape for c in chunks}) == 1
        whole = torch.cat(chunks) if same else chunks[0]
        layered.setdefault(f"{part}.{site}", []).append(whole[0] if whole.shape[0] == 1 else whole)
    return {n: torch.stack(v).to(device) for n, v in layered.items() if len({x.shape for x in v}) == 1}


def _available(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        return next(int(line.split()[1]) * 1024 for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable"))
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _afford(needs: Estimate) -> None:
    if needs.during > needs.available:
        raise MemoryError(
            f"this pass {needs}. Ask for fewer rows (queries=interp.EMITTING), fewer layers (layers=range(8, 16)), "
            "a smaller dtype (dtype=torch.float16), or use measure(...), which keeps one layer at a time"
        )
