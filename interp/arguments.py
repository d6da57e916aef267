"""Arguments of the public verbs: names where values are expected, and errors that say what to give instead.

Every verb passes its arguments through here before it does anything, so that a name, a value and a mistake are treated
alike everywhere: a name becomes the value it stands for, a class in place of an instance is refused, and so on.

check_model, check_prompt: the model and the conversation.
list_prompts: one conversation or several.
list_interventions: interventions, methods and names of methods (`"vaf:enhance=1.3"`).
list_analyses: analyses and names of analyses (`"sinks"`).
list_sites, list_layers, check_tokens: sites, layers and tokens.
check_device, check_dtype: where arrays are kept, and in what type.
check_settings: numbers, switches and texts, by the table SETTINGS.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from interp.analysis.base import Analysis
from interp.data.errors import check_type, wrong_type
from interp.data.prompt import Prompt, Reply
from interp.data.sites import PARTS, SITES
from interp.data.tokens import Tokens, tokens
from interp.interventions.base import Intervention
from interp.interventions.method import Method, parse_method
from interp.models.model import Model
from interp.registry import build, discover, nearest, parse

EVERY_SITE = (*SITES, *(f"{part}.{site}" for part in PARTS if part != "decoder" for site in ("attn_scores", "pattern")))
"""Every site that a model may have; of the parts beside the decoder, their attention."""
Interventions = Intervention | Method | str | Sequence[Intervention | Method | str]
"""What the argument `interventions` accepts: one or several interventions, methods, or names of methods."""


_SWITCH = bool, "True or False"
_COUNT = int, "a whole number of at least 1"
SETTINGS: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(("estimate", "progress", "resume", "strict"), _SWITCH),
    **dict.fromkeys(("batch_size", "max_new_tokens", "draws"), _COUNT),
    "recompute": (bool | None, "True, False or None"),
    "limit": (int | None, "a whole number of at least 1, or None"),
    "seed": (int | None, "a whole number or None"),
    "on_token": (Callable | None, "a function of the text of a token, or None"),
    "system_prompt": (str | None, "an instruction as text, or None"),
    "folder": (str | Path, "a folder"),
    "ray": (str | None, "'auto', HOST:PORT or None"),
    "gpus_per_replica": (int | float, "a number of GPUs"),
}
"""The types of the simple arguments that several verbs share, and what a message says is expected."""


def check_settings(**given: Any) -> None:
    """Check the types of simple arguments; names that are not in `SETTINGS` pass.

    Raises:
        TypeError: a value of another type.
    """
    for name, value in given.items():
        if name in SETTINGS:
            check_type(value, SETTINGS[name][0], name, SETTINGS[name][1])


def expect_model(given: Any) -> Model:
    """Return the model.

    Raises:
        TypeError: anything but a `Model`.
    """
    if isinstance(given, Model):
        return given
    advice = "load one first: interp.load('scenes')"
    if isinstance(given, str):
        advice = f"load it first: interp.load({given!r})"
    elif isinstance(given, nn.Module):
        advice = "wrap it first: interp.load(model, processor=processor)"
    raise wrong_type("model", "a Model", given, advice)


def expect_prompt(given: Any, argument: str = "prompt") -> Prompt:
    """Return the conversation.

    Raises:
        TypeError: anything but a `Prompt`.
    """
    if isinstance(given, Prompt):
        return given
    advice = "prepare one first: model.prepare(image, text)"
    if isinstance(given, str):
        advice = f"prepare it first: model.prepare(image, {given!r:.60}), or model.prepare(text={given!r:.60})"
    elif isinstance(given, Reply):
        advice = "append it to the prompt that it answers: prompt.with_response(reply)"
    raise wrong_type(argument, "a Prompt", given, advice)


def list_prompts(given: Any, argument: str = "prompts") -> list[Prompt]:
    """Return one conversation or several as a list.

    Raises:
        TypeError: anything but a `Prompt` or an iterable of them.
    """
    if isinstance(given, Prompt | str | Reply) or not isinstance(given, Iterable):  # a text would be a list of letters
        return [expect_prompt(given, argument)]
    return [expect_prompt(one, f"{argument}[{index}]") for index, one in enumerate(given)]


def list_interventions(given: Any, argument: str = "interventions", *, rules: bool = False) -> tuple[Any, ...]:
    """Return one or several interventions and methods as a tuple, with the method in place of a method's name.

    Args:
        given: interventions, methods, and names of methods with or without settings.
        argument: its name, for the message.
        rules: whether Hugging Face logits processors are accepted too.

    Raises:
        TypeError: anything else.
        ValueError: an unknown method or setting.
    """
    single = isinstance(given, str) or not isinstance(given, Iterable)
    return tuple(_intervention(one, argument, rules) for one in ([given] if single else given))


def _intervention(given: Any, argument: str, rules: bool) -> Any:
    if isinstance(given, Intervention | Method) or (rules and callable(given) and not isinstance(given, type)):
        return given
    if isinstance(given, str):
        return parse_method(given)
    advice = "for example MaskAttention(keys=Segment.IMAGE) or 'vaf:enhance=1.3'"
    raise wrong_type(argument, "interventions, methods or names of methods", given, advice)


def expect_method(given: Any, argument: str = "method") -> Method:
    """Return a method, also from its name.

    Raises:
        TypeError: anything else.
        ValueError: an unknown method or setting.
    """
    if isinstance(given, Method):
        return given
    if isinstance(given, str):
        return parse_method(given)
    raise wrong_type(argument, "a method or the name of one", given, "for example Spear() or 'vaf:enhance=1.3'")


def analyses() -> dict[str, type[Analysis]]:
    """Return every analysis of `interp.analysis` by its name, such as `visual_anchors` for `VisualAnchors`."""
    return discover("interp.analysis", Analysis)  # type: ignore[type-abstract]


def parse_analysis(text: str) -> Analysis:
    """Return the analysis that is written `sinks` or `sinks:epsilon=0.2`.

    Raises:
        ValueError: an unknown analysis or setting, or a missing setting.
    """
    name, settings = parse(text)
    return build("analysis", analyses(), name, settings)


def list_analyses(given: Sequence[Any]) -> tuple[Analysis, ...]:
    """Return analyses as a tuple, with the analysis in place of an analysis's name.

    Raises:
        TypeError: anything else.
        ValueError: no analysis, an unknown name or setting.
    """
    if not given:
        raise ValueError("measure needs at least one analysis, for example interp.analysis.sinks.Sinks() or 'sinks'")
    return tuple(_analysis(one) for one in given)


def _analysis(given: Any) -> Analysis:
    if isinstance(given, Analysis):
        return given
    if isinstance(given, str):
        return parse_analysis(given)
    raise wrong_type("analyses", "analyses or names of analyses", given, "for example Sinks() or 'sinks'")


def list_sites(given: Any, argument: str) -> frozenset[str]:
    """Return one or several names of sites as a set.

    Raises:
        TypeError: anything but text.
        ValueError: an unknown site; suggests the nearest.
    """
    names = [given] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
    known = ", ".join(EVERY_SITE)
    for name in names:
        if not isinstance(name, str):
            raise wrong_type(argument, "names of sites", name, f"sites: {known}")
        if name not in EVERY_SITE:
            raise ValueError(f"{argument}: no site {name!r}{nearest(name, EVERY_SITE)}; sites: {known}")
    return frozenset(names)


def expect_tokens(given: Any, argument: str) -> Tokens:
    """Return a selection of tokens.

    Raises:
        TypeError: anything that selects no tokens.
        ValueError: an unknown name.
    """
    try:
        return tokens(given)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{argument}: {error}") from None


def expect_device(given: Any, argument: str = "device") -> torch.device:
    """Return a device.

    Raises:
        TypeError: neither a device nor text.
        ValueError: text that names no device.
    """
    check_type(given, str | torch.device, argument, "a device such as 'cpu' or 'cuda:0'")
    try:
        return torch.device(given)
    except RuntimeError as error:
        raise ValueError(f"{argument}: no device {given!r}; give for example 'cpu' or 'cuda:0'") from error


def expect_dtype(given: Any, argument: str = "dtype") -> torch.dtype | None:
    """Return a floating-point type from a type or its name; None stays None.

    Raises:
        TypeError: neither a type nor text.
        ValueError: an unknown name.
    """
    names = "a floating-point type such as 'float32', 'bfloat16' or 'float16'"
    check_type(given, str | torch.dtype | None, argument, names)
    found = getattr(torch, given, None) if isinstance(given, str) else given
    if found is not None and not (isinstance(found, torch.dtype) and found.is_floating_point):
        raise ValueError(f"{argument}: expected {names}, got {given!r}")
    if isinstance(given, str) and found is None:
        raise ValueError(f"{argument}: expected {names}, got {given!r}")
    return found


def list_layers(given: Any, argument: str = "layers") -> tuple[int, ...] | None:
    """Return one or several layers as a tuple; None stays None.

    Raises:
        TypeError: anything but whole numbers.
    """
    if given is None:
        return None
    several = [given] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
    return tuple(
        check_type(layer, int, argument, "layer numbers, counted from 0, such as [0, 1, 2]") for layer in several
    )
