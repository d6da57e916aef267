"""What a published mitigation is: interventions for a prompt and, where it needs one, a rule on the next token or a decoding loop."""

import abc
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, final

from interp.data.prompt import Prompt, Reply
from interp.data.tokens import Segment
from interp.interventions.base import Intervention
from interp.registry import build, discover, parse


class Method(abc.ABC):
    """The base of all methods. Final subclasses are frozen dataclasses whose settings have the published defaults.

    A method goes wherever an intervention goes: `generate(model, prompt, Spear())`, `measure(..., interventions=[Vaf()])`. Methods
    compose with `+`.
    """

    def refusal(self, model: Any) -> str | None:
        """Return why this cannot act on a model; None when it can."""
        return None

    def misfit(self, options: Mapping[str, Any]) -> str | None:
        """Return why this cannot act under some options of `generate`; None when it can."""
        return None

    def marked(self, model: Any, prompt: Prompt) -> Prompt:
        """Return the prompt with what this finds out about it beforehand, such as its sinks."""
        return prompt

    @abc.abstractmethod
    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the interventions, the same for every prompt."""

    def rules(self, model: Any, prompts: Sequence[Prompt]) -> tuple[Any, ...]:
        """Return Hugging Face logits processors for one batch; none by default."""
        return ()

    @property
    def needs_image(self) -> bool:
        """Whether this acts on an image, so that a prompt without one is refused."""
        return False

    @property
    def passes(self) -> int:
        """How many passes through the model a token takes at most, forward or backward."""
        return 1

    @property
    def decodes(self) -> bool:
        """Whether this brings a decoding loop of its own (`decode`)."""
        return False

    def decode(
        self, model: Any, prompt: Prompt, interventions: Sequence[Intervention], rules: Sequence[Any], **options: Any
    ) -> Reply:
        """Return a reply from this method's own decoding loop.

        Raises:
            TypeError: it has none.
        """
        raise TypeError(f"{self} has no decoding loop of its own")

    def __add__(self, other: "Method") -> "Together":
        """Return both methods at once."""
        return Together((*parts(self), *parts(other)))

    def settings(self) -> dict[str, Any]:
        """Return every setting by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]


@final
@dataclass(frozen=True)
class Together(Method):
    """Several methods at once, in this order at each site.

    Raises:
        ValueError: more than one of them brings a decoding loop.
    """

    of: tuple[Method, ...]

    def __post_init__(self) -> None:
        """Refuse two decoding loops."""
        loops = [m for m in self.of if m.decodes]
        if len(loops) > 1:
            raise ValueError(f"{' and '.join(map(str, loops))} each decode in their own way; only one of them can")

    def refusal(self, model: Any) -> str | None:
        """Return the first reason."""
        return next((r for r in (m.refusal(model) for m in self.of) if r), None)

    def marked(self, model: Any, prompt: Prompt) -> Prompt:
        """Let every method mark the prompt."""
        for method in self.of:
            prompt = method.marked(model, prompt)
        return prompt

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the interventions of all."""
        return tuple(c for m in self.of for c in m.interventions(model))

    def rules(self, model: Any, prompts: Sequence[Prompt]) -> tuple[Any, ...]:
        """Return the rules of all."""
        return tuple(r for m in self.of for r in m.rules(model, prompts))

    @property
    def passes(self) -> int:
        """The one pass that they share, and what each adds to it."""
        return 1 + sum(m.passes - 1 for m in self.of)

    @property
    def decodes(self) -> bool:
        """Whether one of them brings a decoding loop."""
        return any(m.decodes for m in self.of)

    def decode(
        self, model: Any, prompt: Prompt, interventions: Sequence[Intervention], rules: Sequence[Any], **options: Any
    ) -> Reply:
        """Return the reply of the one that decodes."""
        return next(m for m in self.of if m.decodes).decode(model, prompt, interventions, rules, **options)

    def __str__(self) -> str:
        """Return the methods the way they are written."""
        return " + ".join(map(str, self.of))


def parts(method: Method) -> tuple[Method, ...]:
    """Return the single methods that a method consists of."""
    return method.of if isinstance(method, Together) else (method,)


@final
@dataclass(frozen=True)
class Resolved:
    """What a mixture of interventions, methods and logits processors comes to for some prompts."""

    prompts: list[Prompt]
    interventions: tuple[Intervention, ...]
    rules: tuple[Any, ...]
    loop: Method | None


def resolve(model: Any, prompts: Sequence[Prompt], interventions: Sequence[Any]) -> Resolved:
    """Return the prompts as the methods mark them, and every change as an intervention, a rule, or the one decoding loop.

    Raises:
        ValueError: a method that does not fit the model, with the reason, or two decoding loops.
    """
    methods = [m for c in interventions if isinstance(c, Method) for m in parts(c)]
    for method in methods:
        reason = method.refusal(model)
        if reason:
            raise ValueError(f"{method} does not fit {model.name}: {reason}")
        blind = [i for i, p in enumerate(prompts) if not p.layout.positions(Segment.IMAGE)]
        if method.needs_image and blind:
            raise ValueError(
                f"{method} acts on an image, but prompts {blind} have none: give one, prepare(image, text)"
            )
    ready = list(prompts)
    for method in methods:
        ready = [method.marked(model, p) for p in ready]
    edits: list[Intervention] = []
    rules: list[Any] = []
    for change in interventions:
        if isinstance(change, Method):
            edits += change.interventions(model)
            rules += change.rules(model, ready)
        elif isinstance(change, Intervention) or not callable(change):
            edits.append(change)
        else:
            rules.append(change)
    loops = [m for m in Together(tuple(methods)).of if m.decodes]
    return Resolved(ready, tuple(edits), tuple(rules), loops[0] if loops else None)


def resolve_for_pass(model: Any, prompt: Prompt, interventions: Sequence[Any]) -> Resolved:
    """Return what some changes come to in one pass over a prompt.

    Raises:
        ValueError: a change that only chooses tokens: a pass chooses none.
    """
    settled = resolve(model, [prompt], interventions)
    if settled.rules or settled.loop is not None:
        chooser = settled.loop or settled.rules[0]
        raise ValueError(f"{chooser} acts where a token is chosen, and one pass chooses none: use it in generate")
    return settled


def refuse_unfit(interventions: Sequence[Any], options: Mapping[str, Any]) -> None:
    """Refuse methods that cannot act under the options of a call of `generate`.

    Raises:
        ValueError: a method says why it cannot.
    """
    for method in [m for c in interventions if isinstance(c, Method) for m in parts(c)]:
        reason = method.misfit(options)
        if reason:
            raise ValueError(f"{method} cannot decode this way: {reason}")


def methods() -> dict[str, type[Method]]:
    """Return every method of `interp.methods` by the name of its file, which is the lower-case name of its class."""
    return discover("interp.methods", Method)  # type: ignore[type-abstract]


def build_method(name: str, **settings: Any) -> Method:
    """Return the method of a name, with some of its settings; letter case and hyphens do not matter (`AD-HH` is `adhh`).

    Raises:
        ValueError: no such method or setting, or one that is missing; says which there are and what comes nearest.
    """
    return build("method", methods(), name, settings)


def parse_method(text: str) -> Method:
    """Return the method that is written `vaf`, `vaf:enhance=1.3,mode=abs`, or `spear+locore:gain=0.2` for two at once.

    Raises:
        ValueError: an unknown method or setting, with the nearest, or a setting that is not written NAME=VALUE.
    """
    each = [parse(one) for one in re.split(r"\+(?=\s*[A-Za-z])", text)]
    made_up = [build_method(name, **settings) for name, settings in each]
    return made_up[0] if len(made_up) == 1 else Together(tuple(made_up))


def scaled_layers(first: int, last: int, layers: int, of: int = 32) -> tuple[int, ...]:
    """Return a published layer range for a model of another depth: round(first · layers / of) .. round(last · layers / of).

    References: methods, decision 3. At the published depth it is the published range.
    """
    return tuple(range(round(first * layers / of), min(round(last * layers / of), layers - 1) + 1))
