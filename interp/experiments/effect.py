"""`effect`: the difference that interventions make to one quantity.

A `Quantity` is a number of a model, a prompt and interventions, such as `Loss` or `Probability`; write your own as a frozen dataclass.
"""

import abc
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from interp.arguments import Interventions, expect_model, expect_prompt, list_interventions
from interp.data.deprecation import renamed_keyword
from interp.data.errors import check_type
from interp.data.prompt import Prompt, Reply
from interp.decoding.generate import generate
from interp.interventions.base import Intervention
from interp.interventions.method import Method, resolve
from interp.models.model import Model
from interp.passes.capture import capture
from interp.registry import build, discover, parse
from interp.taps.audit import Fired
from interp.taps.running import run_pass

AnyIntervention = Intervention | Method
"""What a quantity can be measured under: a method is an intervention too."""


class Quantity(abc.ABC):
    """The base of the quantities that `effect` compares. Final subclasses are frozen dataclasses."""

    unit: str = ""

    @abc.abstractmethod
    def __call__(self, model: Model, prompt: Prompt, interventions: Sequence[AnyIntervention]) -> float:
        """Return the quantity under some interventions."""


def _next_logits(model: Model, prompt: Prompt, interventions: Sequence[AnyIntervention]) -> Tensor:
    return capture(model, prompt, want={"logits"}, interventions=interventions).logits[-1].float()


def _token_id(model: Model, token: str | int) -> int:
    """Return the id of a token given by id or as text.

    Raises:
        ValueError: the text is not one token; lists its tokens.
    """
    if isinstance(token, int):
        return token
    ids = model.tokenizer(token, add_special_tokens=False)["input_ids"]
    if len(ids) != 1 or ids[0] == getattr(model.tokenizer, "unk_token_id", None):
        pieces = [model.tokenizer.decode([i]) for i in ids]
        raise ValueError(f"{token!r} is not one token of {model.name} but {pieces}; give one of them, or a token id")
    return int(ids[0])


@final
@dataclass(frozen=True)
class Logit(Quantity):
    """The logit of a token (text or id) as the next one."""

    token: str | int
    unit: str = field(default="logit", init=False)

    def __call__(self, model: Model, prompt: Prompt, interventions: Sequence[AnyIntervention]) -> float:
        """Return the logit."""
        return float(_next_logits(model, prompt, interventions)[_token_id(model, self.token)])


@final
@dataclass(frozen=True)
class Probability(Quantity):
    """The probability of a token (text or id) as the next one, in [0, 1]."""

    token: str | int
    unit: str = field(default="probability", init=False)

    def __call__(self, model: Model, prompt: Prompt, interventions: Sequence[AnyIntervention]) -> float:
        """Return the probability."""
        return float(_next_logits(model, prompt, interventions).softmax(-1)[_token_id(model, self.token)])


@final
@dataclass(frozen=True)
class Loss(Quantity):
    """The mean -ln p of the tokens of the prompt's teacher-forced reply, in nats.

    Raises (when called):
        ValueError: the prompt has no reply.
    """

    unit: str = field(default="nats per token", init=False)

    def __call__(self, model: Model, prompt: Prompt, interventions: Sequence[AnyIntervention]) -> float:
        """Return the loss."""
        ids = torch.tensor(prompt.response_ids)
        if not len(ids):
            raise ValueError("the loss is of a reply, and this prompt has none; prompt.with_response(reply) adds one")
        logits = capture(model, prompt, want={"logits"}, interventions=interventions).logits[-len(ids) - 1 : -1].float()
        return float(-logits.log_softmax(-1).gather(-1, ids[:, None]).mean())


@final
@dataclass(frozen=True)
class Length(Quantity):
    """The number of tokens of the greedy reply, its end token included."""

    max_new_tokens: int = 128
    unit: str = field(default="tokens", init=False)

    def __call__(self, model: Model, prompt: Prompt, interventions: Sequence[AnyIntervention]) -> float:
        """Return the length."""
        return float(len(generate(model, prompt, *interventions, max_new_tokens=self.max_new_tokens).ids))


@final
@dataclass(frozen=True)
class Ends(Quantity):
    """Whether the model ends the greedy reply itself: 1 or 0."""

    max_new_tokens: int = 128
    unit: str = field(default="1 if it ends by itself", init=False)

    def __call__(self, model: Model, prompt: Prompt, interventions: Sequence[AnyIntervention]) -> float:
        """Return 1 when the model ended it."""
        return float(generate(model, prompt, *interventions, max_new_tokens=self.max_new_tokens).stop == "end")


@final
@dataclass(frozen=True)
class Answers(Quantity):
    """Whether the greedy reply begins with a given answer, whatever the case: 1 or 0."""

    answer: str
    max_new_tokens: int = 16
    unit: str = field(default="1 if it gives the answer", init=False)

    def __call__(self, model: Model, prompt: Prompt, interventions: Sequence[AnyIntervention]) -> float:
        """Return 1 when the reply begins with the answer."""
        reply: Reply = generate(model, prompt, *interventions, max_new_tokens=self.max_new_tokens)
        return float(reply.text.strip().lower().startswith(self.answer.strip().lower()))


@final
@dataclass(frozen=True)
class Effect:
    """A quantity without and with some interventions.

    Args:
        of: the quantity.
        without: its value without interventions.
        under: its value under them.
        audit: what each intervention did, in a forward pass over the prompt.
    """

    of: Quantity
    without: float
    under: float
    audit: tuple[Fired, ...] = field(default=(), repr=False)

    @property
    def change(self) -> float:
        """The value under the interventions minus the value without."""
        return self.under - self.without

    def __str__(self) -> str:
        """Return a summary in one line."""
        return f"{self.of}: {self.without:.4g} → {self.under:.4g} ({self.change:+.4g} {self.of.unit})"


@renamed_keyword("changes", "interventions")
def effect(model: Model, prompt: Prompt, interventions: Interventions, *, of: Quantity | str) -> Effect:
    """Return the effect of some interventions on a quantity.

    Args:
        model: the model.
        prompt: the conversation.
        interventions: an intervention, a method, or several.
        of: the quantity: `Logit`, `Probability`, `Loss`, `Length`, `Ends`, `Answers`, a name such as `"probability:token=Yes"`, or a
            `Quantity` of your own.

    Raises:
        ValueError: the quantity or an intervention does not fit this prompt.
    """
    several, of = list_interventions(interventions), check_quantity(of)
    settled = resolve(expect_model(model), [expect_prompt(prompt)], several)
    ready = settled.prompts[0]  # so that a method finds its sinks once, not again for every quantity
    return Effect(of, of(model, prompt, ()), of(model, ready, several), _audited(model, ready, settled.interventions))


def check_quantity(given: Any, argument: str = "of") -> Quantity:
    """Return a quantity, also from its name: `loss`, `probability:token=Yes`.

    Raises:
        TypeError: neither a quantity nor text.
        ValueError: an unknown quantity or setting.
    """
    if isinstance(given, str):
        name, settings = parse(given)
        return build("quantity", discover("interp.experiments", Quantity), name, settings)  # type: ignore[type-abstract]
    check_type(
        given, Quantity, argument, "a Quantity or the name of one", "for example Loss() or 'probability:token=Yes'"
    )
    return given


def _audited(model: Model, prompt: Prompt, interventions: Sequence[Intervention]) -> tuple[Fired, ...]:
    now = model.running([prompt], interventions)
    with warnings.catch_warnings(), torch.no_grad(), run_pass(now):
        warnings.simplefilter("ignore")  # the quantity's own pass has warned already
        model.module(**model.inputs([prompt]), use_cache=False)
    return tuple(now.audit)
