"""`interp world`: draw and export scenes of the drawn world, train its model, measure a checkpoint."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from interp.registry import nearest

app = typer.Typer(
    help="The drawn world with exact ground truth, and the training of the embedded model.", no_args_is_help=True
)

CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "scenes"

Seed = Annotated[int, typer.Option(help="Seed of the scenes.")]
Split = Annotated[str, typer.Option(help="train, val, test or counter_prior.")]


@app.command()
def show(
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("scenes.png"),
    n: Annotated[int, typer.Option(help="Number of scenes.", min=1)] = 6,
    split: Split = "test",
    seed: Seed = 0,
    scale: Annotated[int, typer.Option(help="Scale factor of the pixels.", min=1)] = 4,
) -> None:
    """Draw scenes into one PNG and print their captions and questions.

    Example: interp world show --n 4 --split counter_prior --out odd.png
    """
    from PIL import Image

    from interp.world.objects import IMAGE_SIZE

    drawn = _scenes(split, n, seed)
    side = IMAGE_SIZE * scale
    sheet = Image.new("RGB", (side * min(n, 6), side * -(-n // 6)), "white")
    for index, scene in enumerate(drawn):
        tile = scene.image.resize((side, side), Image.Resampling.NEAREST)
        sheet.paste(tile, (side * (index % 6), side * (index // 6)))
        typer.echo(f"\n{index}: {scene.captions['detailed']}")
        for question in scene.questions:
            typer.echo(f"   {question.kind:9} {question.text} {question.answer}")
    sheet.save(out)
    typer.echo(f"\n{n} scenes, left to right and top to bottom: {out}")


@app.command()
def scenes(
    out: Annotated[Path, typer.Argument(help="Folder for the images and scenes.jsonl.")],
    split: Split = "test",
    n: Annotated[int, typer.Option(help="Number of scenes.", min=1)] = 100,
    seed: Seed = 0,
) -> None:
    """Export a split as PNG images and one JSON line per scene: objects, captions, questions.

    Example: interp world scenes exported --split val --n 500
    """
    drawn = _scenes(split, n, seed)
    out.mkdir(parents=True, exist_ok=True)
    lines = []
    for index, scene in enumerate(drawn):
        name = f"{split}-{seed}-{index:06d}.png"
        scene.image.save(out / name)
        record = {
            "image": name,
            "place": scene.place,
            "objects": [asdict(thing) for thing in scene.objects],
            "counter": asdict(scene.counter) if scene.counter else None,
            "captions": scene.captions,
            "questions": [asdict(question) for question in scene.questions],
        }
        lines.append(json.dumps(record))
    (out / "scenes.jsonl").write_text("\n".join(lines) + "\n")
    typer.echo(f"{n} scenes of split {split} in {out}")


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder of checkpoints and logs.")] = Path("runs/world"),
    config: Annotated[Path | None, typer.Option(help="Recipe as TOML; by default that of the embedded model.")] = None,
    stage: Annotated[str, typer.Option(help="vision, language, multimodal, placing, tuning or all.")] = "all",
    export: Annotated[Path | None, typer.Option(help="Folder for the trained model.")] = None,
) -> None:
    """Train the embedded model; the same command resumes a run that was killed.

    Example: interp world train --out runs/world --export runs/world/model
    """
    import logging

    from interp.world.training.config import read_recipe
    from interp.world.training.run import export as write
    from interp.world.training.run import load_trained
    from interp.world.training.run import train as run

    if export and stage not in ("tuning", "all"):
        raise typer.BadParameter(f"--export needs the finished model: --stage all or tuning, not {stage}")
    logging.basicConfig(level=logging.WARNING)
    recipe = read_recipe(config)
    try:
        run(recipe, out, stage)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if export:
        write(load_trained(recipe, out), export)
        typer.echo(f"model and processor: {export}")


@app.command()
def card(
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint folder; the card is written into it.")] = CHECKPOINT,
    run: Annotated[
        Path | None, typer.Option(help="The training run of the checkpoint, to measure its earlier stages too.")
    ] = None,
    n: Annotated[int, typer.Option(help="Test scenes.", min=28)] = 300,
    doses: Annotated[int, typer.Option(help="Scenes per strength of the dose-response.", min=1)] = 150,
    seed: Seed = 0,
) -> None:
    """Measure a checkpoint and write its README.md and card.json.

    Example: interp world card --run runs/world
    """
    from interp.world.card import measure_card, write_card
    from interp.world.training.config import read_recipe

    measured = measure_card(checkpoint, read_recipe(), run=run, n=n, doses=doses, seed=seed)
    write_card(checkpoint, measured)
    typer.echo(f"{checkpoint / 'README.md'} and card.json")


def _scenes(split: str, n: int, seed: int) -> list:
    from interp.world.scene import SPLITS
    from interp.world.scene import scenes as draw

    if split not in SPLITS:
        raise typer.BadParameter(f"no split {split!r}{nearest(split, SPLITS)}; splits: {', '.join(SPLITS)}")
    return draw(split, n, seed)


if __name__ == "__main__":
    app()
