"""The base class of published methods.

A method is a set of interventions, with a rule on the next token (a logits processor) or a decoding loop where the publication has one.

Method: the base class. Together: several methods at once, written `Spear() + Locore()`.
resolve: sorts a mixture of interventions, methods and logits processors for a model and some prompts.
methods, build_method, parse_method: look methods up by name.
scaled_layers: transfers a published layer range to a model of another depth.
"""

import abc
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, final

from interp.data.prompt import Prompt, Reply
from interp.data.tokens import Segment
from interp.interventions.base import Intervention
from interp.registry import build, discover, parse


class Method(abc.ABC):
    """The base of all methods. Final subclasses are frozen dataclasses whose settings have the published defaults.

    Pass a method wherever an intervention is accepted: `generate(model, prompt, Spear())`, `measure(..., interventions=[Vaf()])`.
    Methods compose with `+`.

    A subclass states facts about itself as class variables (`on_image`, `passes`, `decodes`; a property where the fact depends on a
    setting) and defines `interventions`. The other methods have defaults.
    """

    on_image: ClassVar[str | None] = None
    """What the method does to the image, as a clause ("it puts noise on an image"). Language models and prompts without an image are
    then refused. None for a method that needs no image."""

    @property
    def passes(self) -> int:
        """The largest number of passes through the model, forward or backward, for one token."""
        return 1

    @property
    def decodes(self) -> bool:
        """Whether this has a decoding loop of its own (see `interp.decoding.loop`)."""
        return False

    def refusal(self, model: Any) -> str | None:
        """Return why this cannot act on a model; None when it can."""
        if self.on_image and not model.family.image_token:
            return f"{self.on_image}, and this is a language model"
        return self.obstacle(model)

    def obstacle(self, model: Any) -> str | None:
        """Return what a model lacks for this, apart from an image: a layer, a head, a class token; None by default."""
        return None

    def misfit(self, options: Mapping[str, Any]) -> str | None:
        """Return why this cannot act under some options of `generate`; None by default."""
        return None

    def mark(self, model: Any, prompt: Prompt) -> Prompt:
        """Return the prompt with the tokens marked that this selects by name, such as its sinks; the prompt itself by default."""
        return prompt

    @abc.abstractmethod
    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the interventions, the same for every prompt."""

    def rules(self, model: Any, prompts: Sequence[Prompt]) -> tuple[Any, ...]:
        """Return Hugging Face logits processors for one batch; none by default."""
        return ()

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
        ValueError: more than one of them has a decoding loop.
    """

    of: tuple[Method, ...]

    def __post_init__(self) -> None:
        """Refuse two decoding loops."""
        loops = [m for m in self.of if m.decodes]
        if len(loops) > 1:
            raise ValueError(
                f"{' and '.join(map(str, loops))} each have a decoding loop of their own; use only one of them"
            )

    @property
    def passes(self) -> int:
        """The one pass that all methods share, plus what each adds to it."""
        return 1 + sum(m.passes - 1 for m in self.of)

    @property
    def decodes(self) -> bool:
        """Whether one of the methods has a decoding loop."""
        return any(m.decodes for m in self.of)

    def obstacle(self, model: Any) -> str | None:
        """Return the first reason to refuse a model."""
        return next((r for r in (m.refusal(model) for m in self.of) if r), None)

    def misfit(self, options: Mapping[str, Any]) -> str | None:
        """Return the first reason to refuse the options."""
        return next((r for r in (m.misfit(options) for m in self.of) if r), None)

    def mark(self, model: Any, prompt: Prompt) -> Prompt:
        """Return the prompt with the marks of all methods."""
        for method in self.of:
            prompt = method.mark(model, prompt)
        return prompt

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the interventions of all methods."""
        return tuple(c for m in self.of for c in m.interventions(model))

    def rules(self, model: Any, prompts: Sequence[Prompt]) -> tuple[Any, ...]:
        """Return the logits processors of all methods."""
        return tuple(r for m in self.of for r in m.rules(model, prompts))

    def decode(
        self, model: Any, prompt: Prompt, interventions: Sequence[Intervention], rules: Sequence[Any], **options: Any
    ) -> Reply:
        """Return the reply of the one method that has a decoding loop."""
        return next(m for m in self.of if m.decodes).decode(model, prompt, interventions, rules, **options)

    def __str__(self) -> str:
        """Return the methods joined by `+`, as they are written on the command line."""
        return " + ".join(map(str, self.of))


def parts(method: Method) -> tuple[Method, ...]:
    """Return the single methods that a method consists of."""
    return method.of if isinstance(method, Together) else (method,)


@final
@dataclass(frozen=True)
class Resolved:
    """A mixture of interventions, methods and logits processors, sorted by kind for some prompts.

    Args:
        prompts: the prompts with the marks of all methods.
        interventions: the interventions, in order.
        rules: the logits processors, in order.
        loop: the method whose decoding loop is used; None for Hugging Face's own.
    """

    prompts: list[Prompt]
    interventions: tuple[Intervention, ...]
    rules: tuple[Any, ...]
    loop: Method | None


def resolve(model: Any, prompts: Sequence[Prompt], interventions: Sequence[Any]) -> Resolved:
    """Return the prompts with the marks of all methods, and the interventions, logits processors and decoding loop of a mixture.

    Raises:
        ValueError: a method that does not fit the model, with the reason, or two decoding loops.
    """
    methods = Together(tuple(m for c in interventions if isinstance(c, Method) for m in parts(c)))
    for method in methods.of:
        reason = method.refusal(model)
        if reason:
            raise ValueError(f"{method} does not fit {model.name}: {reason}")
        without = [i for i, p in enumerate(prompts) if not p.layout.positions(Segment.IMAGE)]
        if method.on_image and without:
            raise ValueError(
                f"{method} acts on an image, but prompts {without} have none: give one, prepare(image, text)"
            )
    ready = [methods.mark(model, p) for p in prompts]
    edits: list[Intervention] = []
    rules: list[Any] = []
    for given in interventions:
        if isinstance(given, Method):
            edits += given.interventions(model)
            rules += given.rules(model, ready)
        elif isinstance(given, Intervention) or not callable(given):
            edits.append(given)  # what is neither is refused where the interventions are checked, with its type
        else:
            rules.append(given)
    return Resolved(ready, tuple(edits), tuple(rules), next((m for m in methods.of if m.decodes), None))


def resolve_for_pass(model: Any, prompt: Prompt, interventions: Sequence[Any]) -> Resolved:
    """Return a mixture resolved for a single pass over a prompt.

    Raises:
        ValueError: a method or logits processor that chooses tokens: a pass chooses none.
    """
    resolved = resolve(model, [prompt], interventions)
    if resolved.rules or resolved.loop is not None:
        chooser = resolved.loop or resolved.rules[0]
        raise ValueError(f"{chooser} acts where a token is chosen, and one pass chooses none: use it in generate")
    return resolved


def refuse_unfit(interventions: Sequence[Any], options: Mapping[str, Any]) -> None:
    """Refuse methods that cannot act under the options of a call of `generate`.

    Raises:
        ValueError: a method that gives a reason not to.
    """
    for method in [m for c in interventions if isinstance(c, Method) for m in parts(c)]:
        reason = method.misfit(options)
        if reason:
            raise ValueError(f"{method} cannot decode under these options: {reason}")


def methods() -> dict[str, type[Method]]:
    """Return every method of `interp.methods`, by the name of its file (the class name in lower case)."""
    return discover("interp.methods", Method)  # type: ignore[type-abstract]


def build_method(name: str, **settings: Any) -> Method:
    """Return the method of a name, with some of its settings; letter case and hyphens do not matter (`AD-HH` is `adhh`).

    Raises:
        ValueError: an unknown method or setting, with the nearest name, or a missing setting.
    """
    return build("method", methods(), name, settings)


def parse_method(text: str) -> Method:
    """Return the method written as `vaf`, as `vaf:enhance=1.3,mode=abs`, or as `spear+locore:gain=0.2` for two at once.

    Raises:
        ValueError: an unknown method or setting, with the nearest name, or a setting not written as NAME=VALUE.
    """
    # A plus before a letter joins two methods; one before a digit belongs to a number such as 1e+3.
    each = [parse(one) for one in re.split(r"\+(?=\s*[A-Za-z])", text)]
    built = tuple(build_method(name, **settings) for name, settings in each)
    return built[0] if len(built) == 1 else Together(built)


def scaled_layers(first: int, last: int, layers: int, of: int = 32) -> tuple[int, ...]:
    """Return a published layer range for a model of another depth: round(first · layers / of) .. round(last · layers / of).

    At the published depth, this is the published range.

    References: methods, decision 3.
    """
    return tuple(range(round(first * layers / of), min(round(last * layers / of), layers - 1) + 1))
