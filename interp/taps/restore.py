"""Leaves a model as it came where giving it taps, or checking them, fails.

A refused model belongs to its user, who goes on with it: with taps left on, it would run our attention function, which may not be the one
its code needs. `restored_on_error` is the context manager.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)
"""Where a module keeps the hooks that taps attach, by handle."""


@contextmanager
def restored_on_error(model: nn.Module) -> Iterator[None]:
    """While open, any exception leaves the model as it was on entering: taps, hooks, attention, mode and gradients."""
    before = _Snapshot(model)
    try:
        yield
    except BaseException:
        before.restore()
        raise


@final
class _Snapshot:
    """What loading changes on a model, as it was."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modules = {
            m: (m.training, {n: set(getattr(m, n)) for n in _HOOKS}, set(m._modules)) for m in model.modules()
        }
        self.gradients = {p: p.requires_grad for p in model.parameters()}
        # The attention implementation is kept in the configurations, and its public setter would choose anew.
        self.configs = [(config, dict(vars(config))) for config in self._configs()]

    def _configs(self) -> list[Any]:
        """Return the configurations of the model, of its modules and of the parts that they name, each once."""
        waiting = [m.config for m in self.model.modules() if isinstance(m, PreTrainedModel)]
        seen: dict[int, Any] = {}
        while waiting:
            config = waiting.pop()
            if id(config) not in seen:
                seen[id(config)] = config
                waiting += [c for c in vars(config).values() if isinstance(c, PreTrainedConfig)]
        return list(seen.values())

    def restore(self) -> None:
        for module, (training, hooks, children) in self.modules.items():
            for name in set(module._modules) - children:
                delattr(module, name)
            for name, known in hooks.items():
                attached = getattr(module, name)
                for handle in set(attached) - known:
                    del attached[handle]
            module.training = training
        for parameter, wanted in self.gradients.items():
            parameter.requires_grad_(wanted)
        for config, attributes in self.configs:
            vars(config).clear()
            vars(config).update(attributes)
