"""Plans a pass before it runs: what it reads and differentiates, which rows it needs, and how much memory it takes.

`plan` checks what a verb wants and returns a `Plan`; `Plan.run` runs it.
"""

import functools
import inspect
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from interp.data.prompt import Prompt
from interp.data.sites import OTHER_PARTS, SCORE_SITES
from interp.data.tokens import EVERY, PREDICTING, Selector, Tokens, tokens
from interp.interventions.base import Intervention
from interp.models.model import Model
from interp.passes.checkpointing import Checkpointing, repeatable
from interp.passes.delivery import Delivery, Take
from interp.passes.memory import WHOLE_GRAPH, Estimate, Sizes, available, layer_by_layer, one_layer, whole_graph
from interp.passes.row_subset import restrict_rows, row_by_row
from interp.passes.target import Target, TargetLoss, loss_of
from interp.taps.clean_run import read_ahead
from interp.taps.install import hooked_backward, tap_path
from interp.taps.running import Destination, run_pass


@final
@dataclass(frozen=True)
class Wanted:
    """What a verb wants of a pass; see `interp.capture` for what each means."""

    values: frozenset[str]
    gradients: frozenset[str] = frozenset()
    target: Target | None = None
    queries: Selector = EVERY
    layers: tuple[int, ...] | None = None
    gradient: Literal["full", "position"] = "full"
    recompute: bool | None = False


@final
@dataclass(frozen=True)
class Plan:
    """A pass that was checked: what is read where, and what the gradients are of. `plan` makes it."""

    model: Model
    prompt: Prompt
    want: frozenset[str]
    grad: frozenset[str]
    layers: tuple[int, ...]
    rows: Tokens
    queries: tuple[int, ...]
    loss: TargetLoss | None
    local: bool
    interventions: tuple[Intervention, ...]
    recompute: bool | None = False

    @property
    def twice(self) -> bool:
        """Whether layers run twice (see `interp.passes.checkpointing`), as was asked for.

        Left open, they do where the graph of all layers would hold more than `WHOLE_GRAPH`, unless an intervention may be one that
        does not do the same thing twice: any function (`Apply`), or one that holds a random generator.
        """
        if self.loss is None or self.recompute is not None:
            return self.loss is not None and bool(self.recompute)
        return whole_graph(self._sizes) > WHOLE_GRAPH and all(map(repeatable, self.interventions))

    @property
    def read(self) -> tuple[int, ...] | None:
        """The rows whose logits anybody reads; None for all of them."""
        if "logits" in self.want or self._seen("logits", 0):
            return None
        return (len(self.prompt) - 1,) if self.loss is None else self.loss.rows

    def run(
        self, take: Take, destination: Destination | None = None
    ) -> tuple[Tensor, Mapping[tuple[str, str, int], list[Tensor]]]:
        """Run the pass; every value and gradient is handed over as soon as it is known.

        Args:
            take: takes them.
            destination: says where a large pattern and its gradient are to be made.

        Returns:
            The logits of the rows that are read, and the values of the other parts' sites.
        """
        names = self.want | self.grad
        reads = frozenset(tuple(n.split(".", 1)) if "." in n else ("decoder", n) for n in names)
        delivery = Delivery(self.grad, self.queries, take)
        twice = Checkpointing(delivery) if self.twice else None
        more: dict[str, Any] = {"reader": delivery}
        if twice is not None:
            more = {"reader": twice.read, "scratch": twice.scratch}
        elif self.grad and not hooked_backward(self.model.blocks, self.model.family):
            more["begins"] = self.grad
        now = self.model.running(
            [self.prompt],
            self.interventions,
            # Logits are returned by the model, in the rows that are read.
            reads=reads - {("decoder", "logits")},
            layers=frozenset(self.layers),
            rows=self.rows,
            gradient=self.loss is not None,
            local=self.local,
            copies=True,
            destination=destination,
            **more,
        )
        inputs = self._inputs()
        read_ahead(self.model.module, inputs, now)
        with run_pass(now), self._only_needed_rows():
            if twice is not None and self.loss is not None:
                loss = functools.partial(_loss, self.loss)
                logits = twice.run(self.model.module, tuple(self.model.blocks), inputs, now, loss)
            else:
                logits = self._run_once(inputs)
        delivery.finish()
        return logits[0], delivery.others

    def _run_once(self, inputs: Mapping[str, Any]) -> Tensor:
        """Run the model forward and, for gradients, backward; return its logits."""
        with torch.set_grad_enabled(self.loss is not None):
            logits = self.model.module(**inputs, use_cache=False).logits
            if self.loss is not None:
                _loss(self.loss, logits).backward()
        return logits.detach()

    def _seen(self, site: str, layer: int) -> bool:
        """Return whether an intervention or a hook of TransformerLens needs all rows of a site."""
        head = self.model.module.get_output_embeddings()
        tap = (
            head.taps if site == "logits" else self.model.module.get_submodule(tap_path(self.model.family, site, layer))
        )
        return any(c.acts_at("decoder", site, layer) for c in self.interventions) or bool(
            tap.fwd_hooks or tap.bwd_hooks
        )

    def _inputs(self) -> dict[str, Any]:
        """Return the model's inputs; where the model supports it, only the logits that are read are computed."""
        inputs: dict[str, Any] = self.model.inputs([self.prompt])
        if self.read is not None and "logits_to_keep" in inspect.signature(self.model.module.forward).parameters:
            inputs["logits_to_keep"] = torch.tensor(self.read, device=self.model.device)
        return inputs

    @contextmanager
    def _only_needed_rows(self) -> Iterator[None]:
        """While open, compute nothing, and make no graph, for rows that are not read and from which no gradient comes.

        In the last layer's MLP, those are the rows whose logits are not read; where gradients stay within one position, they are the
        same in every layer.
        """
        last, behind = self.model.layers - 1, {"mlp_out", "resid_post"}
        wanted = last in self.layers and bool(behind & self.want)
        seen = (last in self.layers and bool(behind & self.grad)) or any(self._seen(s, last) for s in behind)
        some: dict[nn.Module, tuple[tuple[int, ...], bool]] = {}
        if self.local and self.loss is not None and self.loss.rows is not None:
            each = (m for block in self.model.blocks for m in row_by_row(block, self.model.family))
            some |= dict.fromkeys(each, (self.loss.rows, True))
        if self.read is not None and not (seen or (wanted and (self.loss is None or self.local))):
            some[self.model.blocks[last].get_submodule(self.model.family.mlp_out)] = self.read, wanted
        with ExitStack() as stack:
            for module, (rows, values) in some.items():
                stack.enter_context(restrict_rows(module, rows, values=values))
            yield

    def estimate(self, itemsize: int | None = None, *, keeps: bool = True) -> Estimate:
        """Return how much memory this takes.

        Args:
            itemsize: bytes of a number that is kept; the model's by default.
            keeps: whether all arrays are returned, as by `capture`, or reduced as they come, as by `measure`.
        """
        size, found = self._sizes, [*self.want, *self.grad]
        logits = size.tokens * size.vocabulary if "logits" in self.want else 0
        kept = (len(self.layers) * sum(map(size.of, found)) + logits) * (itemsize or size.itemsize) if keeps else 0
        return Estimate(kept, kept + self._working(), available(self.model.device))

    def _working(self) -> int:
        size, held = self._sizes, 0
        if any(c.behind_clean_keys for c in self.interventions):  # clean keys are held, and every row is eager
            size = replace(size, rows=size.tokens)
            held = size.layers * (size.of("k") + size.of("v")) * size.itemsize
        if self.loss is None:
            return held + one_layer(size)
        return held + (layer_by_layer(size) if self.twice else whole_graph(size))

    @functools.cached_property
    def _sizes(self) -> Sizes:
        m = self.model
        return Sizes(
            layers=m.layers,
            tokens=len(self.prompt),
            rows=len(self.queries),
            graded=len(self.loss.rows) if self.local and self.loss and self.loss.rows else len(self.prompt),
            heads=m.heads,
            kv_heads=m.kv_heads,
            head_dim=m.head_dim,
            dim=m.dim,
            vocabulary=m.module.get_output_embeddings().weight.shape[0],
            itemsize=torch.empty((), dtype=m.dtype).element_size(),
        )


def plan(model: Model, prompt: Prompt, wanted: Wanted, interventions: tuple[Intervention, ...] = ()) -> Plan:
    """Return the plan of a pass.

    Raises:
        ValueError: an unknown site, a layer that is not there, rows that take nothing, gradients without a target or a
            target without gradients, the gradient of every token of a model whose prompt tokens see ahead.
        IndexError: a target outside the reply.
    """
    _check_sites(model, wanted)
    layers = tuple(range(model.layers)) if wanted.layers is None else tuple(sorted(set(wanted.layers)))
    if not layers or layers[0] < 0 or layers[-1] >= model.layers:
        raise ValueError(f"layers {list(layers)} are out of range: {model.name} has layers 0..{model.layers - 1}")
    if wanted.gradient not in ("full", "position"):
        raise ValueError(f"gradient is 'full' or 'position', got {wanted.gradient!r}")
    if wanted.target is not None and not wanted.gradients:
        raise ValueError("a target was given but no gradient asked for; add grad={'pattern'}, or leave the target out")
    local = wanted.gradient == "position"
    if local and model.family.response_type:  # such models read their prompt in both directions
        raise ValueError(
            f"{model.name} lets earlier tokens of the prompt see its last one, so the gradient of the first response token does not stay "
            "at its own position; ask for one token at a time: gradient='full' with target=0, 1, ..."
        )
    loss = loss_of(prompt, wanted.target, local=local) if wanted.gradients else None
    queries = tokens(wanted.queries)
    rows = queries if not local else PREDICTING if queries == EVERY else PREDICTING | queries
    positions = prompt.layout.positions(rows)
    if not positions:
        raise ValueError(f"queries={rows} take no token of this prompt")
    asked = wanted.values, wanted.gradients, layers, rows, positions, loss, local, interventions, wanted.recompute
    return Plan(model, prompt, *asked)


def _check_sites(model: Model, wanted: Wanted) -> None:
    others = {f"{p}.{s}" for p in OTHER_PARTS for s in SCORE_SITES}
    differentiable = set(model.sites) - {"logits"}
    unknown = sorted((wanted.values - set(model.sites) - others) | (wanted.gradients - differentiable))
    if unknown:
        have = ", ".join([*model.sites, *sorted(others)])
        raise ValueError(
            f"{model.name} has no site {', '.join(unknown)} to read (gradients: of decoder sites only); it has {have}"
        )


def _loss(loss: TargetLoss, logits: Tensor) -> Tensor:
    """Return the loss of what a model returned: the logits that are read, or all of them where it knows no other way."""
    return loss.of(logits[0] if loss.rows is None or logits.shape[1] == len(loss.rows) else logits[0, list(loss.rows)])
