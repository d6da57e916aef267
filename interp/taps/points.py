"""The taps themselves: named places that a value passes through, as modules.

Being modules with TransformerLens' names, they are seen by TransformerLens' hooks, by nnsight's trace and by plain PyTorch hooks. What a
tap does is decided by the running pass.
"""

import weakref
from collections.abc import Callable
from typing import Any, final

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformer_lens.hook_points import HookPoint

from interp.data.sites import INSIDE_ATTENTION
from interp.taps.running import running

Attach = Callable[[nn.Module, "Tap"], RemovableHandle]
"""Lets the values of a module pass through a tap, until the handle is removed."""
NAMES = {"decoder": "blocks", "vision": "vision.blocks", "qformer": "qformer.blocks", "cross": "qformer.cross"}


@final
class Tap(HookPoint):
    """One named place a value passes through.

    Args:
        part: one of `interp.data.sites.PARTS`.
        site: one of `interp.data.sites.SITES`.
        layer: index of the block, from 0.
        name: TransformerLens' name.
        attached: the sites of its module that are observed whatever the running pass says; the tap enters its own.
    """

    def __init__(self, part: str, site: str, layer: int, name: str, attached: set[str] | None = None) -> None:
        """Remember where this is."""
        super().__init__()
        self.part, self.site, self.layer, self.name = part, site, layer, name
        self._bound: tuple[weakref.ref[nn.Module], Attach] | None = None
        self._attached = set[str]() if attached is None else attached
        self._count, self._hooked = 0, False
        self._handle: RemovableHandle | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the value as the running pass leaves it."""
        now = running.get()
        return x if now is None else now.visit(self.part, self.site, self.layer, x)

    def bind(self, module: nn.Module, attach: "Attach") -> None:
        """Say which module's values pass through here, and how: not before the tap is attached, since an idle hook costs too."""
        self._bound = weakref.ref(module), attach

    def attach(self) -> None:
        """Let values pass through until `detach`; may be called several times."""
        self._count += 1
        if self._count > 1:
            return
        self._attached.add(self.site)
        module = None if self._bound is None else self._bound[0]()
        if self._bound is not None and module is not None:
            self._handle = self._bound[1](module, self)

    def detach(self) -> None:
        """Undo one `attach`."""
        self._count -= 1
        if self._count:
            return
        self._attached.discard(self.site)
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def add_hook(self, *args: Any, **kwargs: Any) -> Any:
        """Add a hook of TransformerLens; the tap is attached as long as it has one."""
        handle = HookPoint.add_hook(self, *args, **kwargs)
        self._follow_hooks()
        return handle

    def remove_hooks(self, *args: Any, **kwargs: Any) -> None:
        """Remove hooks of TransformerLens."""
        HookPoint.remove_hooks(self, *args, **kwargs)
        self._follow_hooks()

    def _follow_hooks(self) -> None:
        hooked = bool(self.fwd_hooks or self.bwd_hooks)
        if hooked != self._hooked:
            self._hooked = hooked
            (self.attach if hooked else self.detach)()

    def observed(self) -> bool:
        """Return whether the running pass or a TransformerLens hook reads or changes this place."""
        if self._hooked:
            return True
        now = running.get()
        return now is not None and now.observes(self.part, self.site, self.layer)


@final
class AttentionTaps(nn.Module):
    """The taps inside one attention module.

    `place` is the key of its layer in a site table, `attached` the sites that are observed whatever the running pass says, such as by a
    hook of TransformerLens.
    """

    def __init__(self, part: str, layer: int) -> None:
        """Name the taps after TransformerLens."""
        super().__init__()
        self.part, self.layer, self.place = part, layer, (part, layer)
        self.attached = set[str]()
        for site in INSIDE_ATTENTION:
            setattr(self, site, Tap(part, site, layer, f"{NAMES[part]}.{layer}.attn.hook_{site}", self.attached))
        # A tuple in the instance is found faster than a submodule.
        self.each = tuple(self.children())


@final
class StreamTaps(nn.Module):
    """The taps on the residual stream of one decoder layer."""

    def __init__(self, layer: int, has_middle: bool) -> None:
        """Name the taps after TransformerLens."""
        super().__init__()
        for site in ("resid_pre", "attn_out", *(["resid_mid"] if has_middle else []), "mlp_out", "resid_post"):
            setattr(self, site, Tap("decoder", site, layer, f"blocks.{layer}.hook_{site}"))
