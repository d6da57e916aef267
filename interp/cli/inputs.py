"""The arguments that commands share, and the values they stand for: models, images, layers, interventions, analyses."""

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
        "--model",
        "-m",
        help="[bold]scenes[/bold] (ships with the package), a Hugging Face name such as llava-hf/llava-1.5-7b-hf, or a folder.",
    ),
]
ImageName = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE",
        help="An image file, scene:SPLIT/N (scene N of the drawn world, such as scene:test/3), or none for text alone.",
    ),
]
Text = Annotated[str, typer.Argument(metavar="QUESTION", help="The question to the model.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Tokens = Annotated[int, typer.Option(min=1, help="Maximum length of the reply, in tokens.")]
InterventionFile = Annotated[
    Path | None,
    typer.Option(help="YAML or JSON file with a list of interventions."),
]
Response = Annotated[str | None, typer.Option(help="A reply to teacher-force.")]
Generate = Annotated[bool, typer.Option("--generate", help="Generate the reply first, then teacher-force it.")]


def load(name: str) -> "Model":
    """Return a model, without the progress bars and notes of transformers."""
    import torch
    import transformers

    import interp
    from interp.cli.screen import waiting
    from interp.loading import EMBEDDED

    if name in EMBEDDED and "OMP_NUM_THREADS" not in os.environ:
        # The matrices of the embedded model are too small to share: on a busy machine two threads take ten times as long as one.
        torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    with waiting(f"loading {name}"):
        return interp.load(name)


def image(name: str) -> Any:
    """Return the image with this name; None for `none`.

    Raises:
        ValueError: the scene is unknown.
        FileNotFoundError: the file does not exist.
    """
    if name == NO_IMAGE:
        return None
    drawn = scene(name)
    if drawn is not None:
        return drawn.image
    from interp.data.images import read_image

    return read_image(name)


def scene(name: str) -> "Scene | None":
    """Return the scene of the drawn world with this image name; None if the name has another form.

    Raises:
        ValueError: the scene is unknown.
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
    """Return the prompt, followed by the given reply or by one that the model generates.

    Raises:
        typer.BadParameter: both kinds of reply were given.
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
    """Return the positions of the attention sinks of a prompt.

    Raises:
        ValueError: no token is a sink by the default bounds.
    """
    import interp
    from interp.analysis.sinks import Sinks

    found = interp.measure(model, prompt, Sinks())
    if not found.positions:
        raise ValueError(
            "no token of this prompt is an attention sink by the default bounds (more than 0.3 of the attention in a third of the "
            "layers); interp measure ... sinks --out DIR shows how much attention each token receives"
        )
    return tuple(found.positions)


def layers(text: str | None) -> list[int] | None:
    """Return the layers of a text such as `0-7` or `0,3,5-6`; None without a text.

    Raises:
        typer.BadParameter: the text has another form.
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
    """Return the layer and the head of a text such as `3.1`.

    Raises:
        typer.BadParameter: the text has another form.
    """
    layer, dot, number = text.strip().partition(".")
    if not (dot and layer.isdigit() and number.isdigit()):
        raise typer.BadParameter(f"a head is written LAYER.HEAD, such as 3.1; got {text!r}")
    return int(layer), int(number)


def interventions(path: Path | None) -> "tuple[Intervention, ...]":
    """Return the interventions of a YAML or JSON file; none without a file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a list of interventions, or has an unknown kind or setting.
    """
    from interp.interventions.files import read_interventions

    return () if path is None else read_interventions(path)


def method(text: str) -> "Method":
    """Return a method from its name and settings: `vaf`, `vaf:enhance=1.3,mode=abs`, or several at once, `spear+locore`.

    Raises:
        ValueError: an unknown method or setting, with the nearest known one, or a setting without `=`.
    """
    from interp.interventions.method import parse_method

    return parse_method(text)


def analyses(names: Sequence[str]) -> "dict[str, Analysis]":
    """Return analyses by their names as given, which may include settings: `sinks:epsilon=0.2`.

    Raises:
        typer.BadParameter: an unknown name, with the nearest known one, or an analysis with settings that have no default.
    """
    from interp.arguments import parse_analysis

    try:
        return {name: parse_analysis(name) for name in names}
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
