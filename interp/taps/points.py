"""The taps themselves: named places that a value passes through, as modules."""

import weakref
from collections.abc import Callable
from typing import Any, final

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformer_lens.hook_points import HookPoint

from interp.taps.running import running

NO_SITES = frozenset[str]()
Attach = Callable[[nn.Module, "Tap"], RemovableHandle]
"""Lets the values of a module come by a tap, until the handle is removed."""
NAMES = {"decoder": "blocks", "vision": "vision.blocks", "qformer": "qformer.blocks", "cross": "qformer.cross"}


@final
class Tap(HookPoint):
    """One named place a value passes through."""

    def __init__(self, part: str, site: str, layer: int, name: str) -> None:
        """Remember where this is."""
        super().__init__()
        self.part, self.site, self.layer, self.name = part, site, layer, name
        self._bound: tuple[weakref.ref[nn.Module], Attach] | None = None
        self._listeners, self._heard = 0, False
        self._handle: RemovableHandle | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the value as the running pass leaves it."""
        now = running.get()
        return x if now is None else now.visit(self.part, self.site, self.layer, x)

    def bind(self, module: nn.Module, attach: "Attach") -> None:
        """Say which module's values come by here, and how: not before somebody listens, for a hook costs even where nobody does."""
        self._bound = weakref.ref(module), attach

    def listen(self) -> None:
        """Let values come by until `leave`; several may listen."""
        self._listeners += 1
        module = None if self._bound is None else self._bound[0]()
        if self._listeners == 1 and self._bound is not None and module is not None:
            self._handle = self._bound[1](module, self)

    def leave(self) -> None:
        """Listen no longer."""
        self._listeners -= 1
        if not self._listeners and self._handle is not None:
            self._handle.remove()
            self._handle = None

    def add_hook(self, *args: Any, **kwargs: Any) -> None:
        """Add a hook of TransformerLens, which listens as long as it is there."""
        HookPoint.add_hook(self, *args, **kwargs)
        self._hear()

    def remove_hooks(self, *args: Any, **kwargs: Any) -> None:
        """Remove hooks of TransformerLens."""
        HookPoint.remove_hooks(self, *args, **kwargs)
        self._hear()

    def _hear(self) -> None:
        hooked = bool(self.fwd_hooks or self.bwd_hooks)
        if hooked != self._heard:
            self._heard = hooked
            (self.listen if hooked else self.leave)()

    def looked_at(self) -> bool:
        """Say whether the running pass or a TransformerLens hook reads or changes this place."""
        if self.fwd_hooks or self.bwd_hooks:
            return True
        now = running.get()
        return now is not None and now.looks(self.part, self.site, self.layer)


@final
class AttentionTaps(nn.Module):
    """The taps inside one attention module."""

    def __init__(self, part: str, layer: int) -> None:
        """Name the taps after TransformerLens."""
        super().__init__()
        self.part, self.layer = part, layer
        for site in ("q", "k", "v", "attn_scores", "pattern", "z"):
            setattr(self, site, Tap(part, site, layer, f"{NAMES[part]}.{layer}.attn.hook_{site}"))
        self.each = (
            self.q,
            self.k,
            self.v,
            self.attn_scores,
            self.pattern,
            self.z,
        )  # a tuple is found faster than a submodule

    def hooked(self) -> frozenset[str]:
        """Return the sites here that TransformerLens hooks read or change."""
        for tap in self.each:
            if tap.fwd_hooks or tap.bwd_hooks:
                return frozenset(t.site for t in self.each if t.fwd_hooks or t.bwd_hooks)
        return NO_SITES

    def frees_scores(self) -> bool:
        """Say whether scores that were shown may be overwritten."""
        now = running.get()
        hooked = self.attn_scores.fwd_hooks or self.attn_scores.bwd_hooks
        return not hooked and now is not None and now.frees_scores(self.part, self.layer)


@final
class StreamTaps(nn.Module):
    """The taps on the residual stream of one decoder layer."""

    def __init__(self, layer: int, has_middle: bool) -> None:
        """Name the taps after TransformerLens."""
        super().__init__()
        for site in ("resid_pre", "attn_out", *(["resid_mid"] if has_middle else []), "mlp_out", "resid_post"):
            setattr(self, site, Tap("decoder", site, layer, f"blocks.{layer}.hook_{site}"))
