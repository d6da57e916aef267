"""What one pass is to read and differentiate, settled before it runs: targets, memory, and the plan itself."""

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import torch
from torch import Tensor

from interp.data import EVERY, PREDICTING, Segment, Selector, Tokens, tokens
from interp.interventions import SITES, Intervention
from interp.model import Model
from interp.prompt import Prompt
from interp.running import ATTENTION_SITES, Pass, run
from interp.taps import OTHER_PARTS, tap_path
from interp.trace import forward, forward_and_backward

Visit = Callable[[str, int, Tensor, Tensor | None], None]
"""Called with site, layer, value and gradient, without the batch axis."""
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
        kept: what is returned, but for the attention of the vision tower and the Q-Former, whose tokens nobody has counted yet.
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
class Wanted:
    """What a verb wants of a pass; see `interp.capture` for what each means."""

    values: frozenset[str]
    gradients: frozenset[str] = frozenset()
    target: Target | None = None
    queries: Selector = EVERY
    layers: tuple[int, ...] | None = None
    gradient: Literal["full", "position"] = "full"


@final
@dataclass(frozen=True)
class Plan:
    """A pass, settled: what is read where, and what the gradients are of. Made by `plan`."""

    model: Model
    prompt: Prompt
    want: frozenset[str]
    grad: frozenset[str]
    layers: tuple[int, ...]
    rows: Tokens
    queries: tuple[int, ...]
    loss: Callable[[Tensor], Tensor] | None
    local: bool
    changes: tuple[Intervention, ...]

    @property
    def paths(self) -> dict[str, tuple[str, int]]:
        """Site and layer of every tap that is read, by its path, in forward order."""
        sites = [s for s in LAYERED if s in self.want | self.grad]
        return {tap_path(self.model.family, s, layer): (s, layer) for layer in self.layers for s in sites}

    def run(self, visit: Visit) -> tuple[Tensor, Mapping[tuple[str, str, int], list[Tensor]]]:
        """Run the pass; every value and gradient is handed over as it comes.

        Returns:
            The logits, and the values of the other parts' sites.
        """
        sites = self.want | self.grad
        wanted = frozenset(tuple(n.split(".", 1)) if "." in n else ("decoder", n) for n in sites)
        watched = {"wanted": wanted, "layers": frozenset(self.layers), "rows": self.rows}
        now = self.model.running(
            [self.prompt], self.changes, gradient=self.loss is not None, local=self.local, **watched
        )
        inputs, paths = self.model.inputs([self.prompt]), self.paths

        def hand_over(path: str, value: Tensor, gradient: Tensor | None) -> None:
            site, layer = paths[path]
            own = functools.partial(self._own_rows, now, site, layer)
            visit(site, layer, own(value[0]), None if gradient is None else own(gradient[0]))

        with run(now):
            if self.loss is None:
                logits = forward(self.model.seen, inputs, list(paths), hand_over)
            else:
                loss, graded = self.loss, frozenset(p for p, (s, _) in paths.items() if s in self.grad)
                logits = forward_and_backward(
                    self.model.seen, inputs, list(paths), graded, lambda x: loss(x[0]), hand_over
                )
        return logits[0], now.kept

    def _own_rows(self, now: Pass, site: str, layer: int, value: Tensor) -> Tensor:
        """Return the rows this plan reads: an edit may have made the layer compute more of them."""
        if site not in ATTENTION_SITES or value.shape[1] == len(self.queries):
            return value
        computed = now.explicit_rows("decoder", layer, len(self.prompt))
        have = range(len(self.prompt)) if computed is None or value.shape[1] == len(self.prompt) else computed.tolist()
        return value[:, [have.index(q) for q in self.queries]]

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
        logits = tokens_ * m.module.get_output_embeddings().weight.shape[0] if "logits" in self.want else 0
        kept = (len(self.layers) * sum(sizes[s] for s in counted) + logits) * (itemsize or size)
        attention = m.heads * rows * tokens_ * size * 4
        stream = tokens_ * m.dim * size * 12
        during = kept + (m.layers if self.loss is not None else 1) * (attention + stream)
        return Estimate(kept, during, _available(m.device))


def plan(model: Model, prompt: Prompt, wanted: Wanted, changes: tuple[Intervention, ...] = ()) -> Plan:
    """Return a pass settled, or say what cannot be had.

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
    loss = _loss(prompt, wanted.target, local) if wanted.gradients else None
    queries = tokens(wanted.queries)
    rows = queries if not local else PREDICTING if queries == EVERY else PREDICTING | queries
    positions = prompt.layout.positions(rows)
    if not positions:
        raise ValueError(f"queries={rows} take no token of this prompt")
    return Plan(model, prompt, wanted.values, wanted.gradients, layers, rows, positions, loss, local, changes)


def _check_sites(model: Model, wanted: Wanted) -> None:
    others = {f"{p}.{s}" for p in OTHER_PARTS for s in ("attn_scores", "pattern")}
    differentiable = set(model.sites) - {"logits"}
    unknown = sorted((wanted.values - set(model.sites) - others) | (wanted.gradients - differentiable))
    if unknown:
        have = ", ".join([*model.sites, *sorted(others)])
        raise ValueError(
            f"{model.name} has no site {', '.join(unknown)} to read (gradients: of decoder sites only); it has {have}"
        )


def _loss(prompt: Prompt, target: Target | None, local: bool) -> Callable[[Tensor], Tensor]:
    """Return the loss, in nats and float32, as a function of the logits (token, vocab)."""
    response = prompt.layout.positions(Segment.RESPONSE)
    ids = prompt.inputs["input_ids"][0]
    if local:
        if target is not None or not response:
            raise ValueError(
                "gradient='position' is of every response token: give a prompt with a reply (prompt.with_response(...)) and no target"
            )
        at, told = torch.tensor(response), ids[list(response)].cpu()
        return lambda logits: (
            -logits[(at - 1).to(logits.device)]
            .float()
            .log_softmax(-1)
            .gather(-1, told.to(logits.device)[:, None])
            .sum()
        )
    if target is None:
        raise ValueError(
            "gradients need a target: a response token (target=0), interp.Position(at), or a function of the logits"
        )
    if not isinstance(target, int | Position):
        function = target
        return lambda logits: _scalar(function(logits))
    if isinstance(target, int):
        if not response:
            raise ValueError(
                "the target is a response token but the prompt has no reply; prompt.with_response(reply) adds one"
            )
        if not -len(response) <= target < len(response):
            raise IndexError(f"target {target} is outside the reply of {len(response)} tokens (0..{len(response) - 1})")
        target = Position(response[target])
    if not 1 <= target.at <= len(ids) or (target.at == len(ids) and target.token is None):
        raise IndexError(
            f"position {target.at} cannot be a target in a conversation of {len(ids)} tokens: give 1..{len(ids) - 1}, "
            f"or {len(ids)} with a token"
        )
    row, token = target.at - 1, int(ids[target.at]) if target.token is None else target.token
    return lambda logits: -logits[row].float().log_softmax(-1)[token]


def _scalar(value: Tensor) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        raise ValueError(f"a target function returns one number computed from the logits, got {value!r:.80}")
    return value.reshape(())


def _available(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        return next(
            int(line.split()[1]) * 1024 for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable")
        )
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def afford(needs: Estimate) -> None:
    """Refuse what does not fit.

    Raises:
        MemoryError: with what to ask for instead.
    """
    if needs.during > needs.available:
        raise MemoryError(
            f"this pass {needs}. Ask for fewer rows (queries=interp.EMITTING), fewer layers (layers=range(8, 16)), "
            "a smaller dtype (dtype=torch.float16), or use measure(...), which keeps one layer at a time"
        )
