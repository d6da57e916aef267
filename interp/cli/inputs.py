"""What the arguments stand for: models, images, layers, interventions, analyses."""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from interp.analysis.base import Analysis
    from interp.data.prompt import Prompt
    from interp.interventions.base import Intervention
    from interp.interventions.method import Method
    from interp.models.model import Model
    from interp.world import Scene

SCENE = "scene:"
NO_IMAGE = "none"

ModelName = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="[bold]scenes[/bold] (ships with the package), a Hugging Face name, or a folder."
    ),
]
ImageName = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE",
        help="A file, scene:SPLIT/N (scene N of the drawn world: scene:test/3), or none for text alone.",
    ),
]
Text = Annotated[str, typer.Argument(metavar="QUESTION", help="What the model is asked.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Tokens = Annotated[int, typer.Option(min=1, help="The longest reply, in tokens.")]
Changes = Annotated[
    Path | None,
    typer.Option(help="YAML or JSON file with a list of interventions."),
]
Response = Annotated[str | None, typer.Option(help="A reply to look at, teacher-forced.")]
Generate = Annotated[bool, typer.Option("--generate", help="Let the model reply first, then look at its reply.")]


def load(name: str) -> "Model":
    """Return a model, without the bars and notes of the libraries below."""
    import torch
    import transformers

    import interp
    from interp.cli.screen import waiting
    from interp.loading import EMBEDDED

    if name in EMBEDDED and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(
            1
        )  # its matrices are too small to share: on a busy machine two threads take ten times as long
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    with waiting(f"loading {name}"):
        return interp.load(name)


def image(name: str) -> Any:
    """Return the image a name stands for; None for `none`.

    Raises:
        ValueError: a scene that is not there.
        FileNotFoundError: no such file.
    """
    if name == NO_IMAGE:
        return None
    drawn = scene(name)
    if drawn is not None:
        return drawn.image
    from interp.data.images import read_image

    return read_image(name)


def scene(name: str) -> "Scene | None":
    """Return the scene of the drawn world that an image's name stands for; None for any other image.

    Raises:
        ValueError: a scene that is not there.
    """
    if not name.startswith(SCENE):
        return None
    from interp.world import SPLITS, scenes

    split, _, number = name.removeprefix(SCENE).partition("/")
    if split not in SPLITS or not number.isdigit():
        raise ValueError(
            f"a scene is scene:SPLIT/N with SPLIT one of {', '.join(SPLITS)} and N from 0, for example scene:test/3; got {name!r}"
        )
    return scenes(split, int(number) + 1)[-1]


def conversation(
    model: "Model", picture: Any, text: str, *, reply: str | None, generated: bool, longest: int
) -> "Prompt":
    """Return the prompt, followed by the reply given or by the model's own.

    Raises:
        typer.BadParameter: both kinds of reply were asked for.
    """
    import interp
    from interp.cli.screen import waiting

    if reply is not None and generated:
        raise typer.BadParameter("give --response TEXT or --generate, not both")
    prompt = model.prepare(picture, text)
    if generated:
        with waiting("generating the reply"):
            return prompt.with_response(interp.generate(model, prompt, max_new_tokens=longest))
    return prompt if reply is None else prompt.with_response(reply)


def sinks(model: "Model", prompt: "Prompt") -> tuple[int, ...]:
    """Return where a prompt's attention sinks are.

    Raises:
        ValueError: it has none by the default bounds.
    """
    import interp
    from interp.analysis.sinks import Sinks

    found = interp.measure(model, prompt, Sinks())
    if not found.positions:
        raise ValueError(
            "this prompt has no attention sink by the default bounds (more than 0.3 of the attention in a third of the "
            "layers); interp measure ... sinks --out DIR shows what its tokens receive"
        )
    return tuple(found.positions)


def layers(text: str | None) -> list[int] | None:
    """Return the layers that a text such as `0-7` or `0,3,5-6` names; None for none given.

    Raises:
        typer.BadParameter: it is written otherwise.
    """
    if text is None:
        return None
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
            raise typer.BadParameter(f"layers are written 0-7, or 0,3,5-6, counted from 0; got {text!r}")
        found += range(int(first), int(last or first) + 1)
    return found


def head(text: str) -> tuple[int, int]:
    """Return the layer and the head that a text such as `3.1` names.

    Raises:
        typer.BadParameter: it is written otherwise.
    """
    layer, dot, number = text.strip().partition(".")
    if not (dot and layer.isdigit() and number.isdigit()):
        raise typer.BadParameter(f"a head is written LAYER.HEAD, such as 3.1; got {text!r}")
    return int(layer), int(number)


def interventions(path: Path | None) -> "tuple[Intervention, ...]":
    """Return the interventions of a YAML or JSON file; none without a file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a list of interventions, or an unknown kind or setting.
    """
    from interp.interventions.files import read_interventions

    return () if path is None else read_interventions(path)


def method(text: str) -> "Method":
    """Return a method from its name and settings: `vaf`, `vaf:enhance=1.3,mode=abs`, or several at once, `spear+locore`.

    Raises:
        ValueError: an unknown method or setting, with the nearest, or a setting that is not written NAME=VALUE.
    """
    from interp.interventions.method import parse_method

    return parse_method(text)


def analyses(names: Sequence[str]) -> "dict[str, Analysis]":
    """Return analyses with their default settings, by name.

    Raises:
        typer.BadParameter: an unknown name, with the nearest known ones, or an analysis that has settings without defaults.
    """
    known = known_analyses()
    found = {}
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"no analysis {name!r}{nearest(name, list(known))}; there are {', '.join(known)}")
        try:
            found[name] = known[name]()
        except TypeError as error:
            raise typer.BadParameter(
                f"{name} has settings without a default, so it runs from Python only: {error}"
            ) from error
    return found


def known_analyses() -> "dict[str, type[Analysis]]":
    """Return every analysis by name: its class in lower case with underscores, and its file where the file holds but one."""
    import importlib
    import pkgutil
    import re

    import interp.analysis

    for info in pkgutil.iter_modules(interp.analysis.__path__):
        importlib.import_module(f"interp.analysis.{info.name}")
    kinds = sorted(interp.analysis.base.Analysis.__subclasses__(), key=lambda kind: kind.__name__)
    return {re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.__name__).lower(): kind for kind in kinds}


def nearest(name: str, known: list[str]) -> str:
    """Return " (did you mean ...?)" where something known is near, else nothing."""
    close = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
