"""`capture` and `measure`: one pass through the model, forward and, where gradients are asked for, backward."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, final, overload

import torch
from torch import Tensor

from interp.arguments import (
    Interventions,
    check_settings,
    expect_device,
    expect_dtype,
    expect_model,
    expect_prompt,
    expect_tokens,
    list_interventions,
    list_layers,
    list_sites,
)
from interp.data.deprecation import renamed_keyword
from interp.data.prompt import Capture, Prompt
from interp.data.result import check_finite
from interp.data.tokens import EVERY, Selector
from interp.interventions.method import resolve_for_pass
from interp.models.model import Model
from interp.passes.memory import Estimate, afford
from interp.passes.plan import Plan, Wanted, plan
from interp.passes.target import Target, check_target


@overload
def capture(model: Model, prompt: Prompt, *, estimate: Literal[True], **wanted: Any) -> Estimate: ...
@overload
def capture(model: Model, prompt: Prompt, *, estimate: Literal[False] = False, **wanted: Any) -> Capture: ...
@overload
def capture(model: Model, prompt: Prompt, *, estimate: bool, **wanted: Any) -> Capture | Estimate: ...
@renamed_keyword("changes", "interventions")  # type: ignore[misc]
def capture(  # noqa: PLR0913  # a verb: every setting has a default and is named
    model: Model,
    prompt: Prompt,
    *,
    want: str | Iterable[str] = ("pattern",),
    grad: str | Iterable[str] = (),
    target: Target | None = None,
    queries: Selector = EVERY,
    layers: int | Iterable[int] | None = None,
    interventions: Interventions = (),
    gradient: Literal["full", "position"] = "full",
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
    estimate: bool = False,
) -> Capture | Estimate:
    """Run the model once and return the arrays asked for.

    Args:
        model: the model.
        prompt: the conversation, with a reply where the target is a response token.
        want: sites to keep (`CAPTURE_AXES` lists them with their axes), `logits`, or attention of the other parts as
            `vision.pattern`, `qformer.pattern`, `cross.pattern` (query, key: the Q-Former's look at the patches), all of its layers.
        grad: sites whose gradient of the loss to keep.
        target: what the gradients are of.
        queries: the query rows of scores and pattern to keep; the others stay on the fast path.
        layers: the layers to keep; all by default.
        interventions: interventions to run under.
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
    check_settings(estimate=estimate)
    wanted = Wanted(
        list_sites(want, "want"),
        list_sites(grad, "grad"),
        check_target(target),
        expect_tokens(queries, "queries"),
        list_layers(layers),
        gradient,
    )
    device, dtype = expect_device(device), expect_dtype(dtype)
    settled = resolve_for_pass(expect_model(model), expect_prompt(prompt), list_interventions(interventions))
    prompt = settled.prompts[0]
    what = plan(model, prompt, wanted, settled.interventions)
    needs = what.estimate(None if dtype is None else torch.empty((), dtype=dtype).element_size())
    if estimate:
        return needs
    afford(needs)
    kept = _Arrays(what, device, dtype)
    logits, others = what.run(kept.take, kept.place)
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

    def place(self, name: str, layer: int, shape: torch.Size) -> Tensor | None:
        """Return where a pattern or its gradient is kept, if all rows of it are: it can be made there."""
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
