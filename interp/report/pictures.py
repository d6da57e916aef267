"""The report's pictures, as PNG, each with its title and what it shows."""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from interp import plot
from interp.data.tokens import Segment
from interp.plot.files import Draw, png
from interp.report.looking import PARTS, Look
from interp.report.study import Study


@final
@dataclass(frozen=True)
class Picture:
    """One picture of the report.

    Args:
        name: of its file, without the ending.
        title: its heading.
        caption: what it shows.
        png: the file.
    """

    name: str
    title: str
    caption: str
    png: bytes


def pictures(study: Study) -> dict[str, Picture]:
    """Return every picture of the report by name, in the order of the page."""
    drawn = [*_reply(study.shown), *_attention(study), *_resting(study), _effects(study)]
    return {picture.name: picture for picture in drawn}


def _drawn(name: str, title: str, caption: str, size: tuple[float, float], draw: Draw) -> Picture:
    return Picture(name, title, caption, png(draw, size=size))


def _reply(shown: Look) -> list[Picture]:
    image, layout, word = shown.scene.image, shown.prompt.layout, shown.word.strip()

    def laid(values: Tensor, label: str) -> Draw:
        chosen = values[list(layout.positions(Segment.IMAGE))]
        return lambda ax: plot.overlay(image, chosen, layout, label=label, ax=ax)

    return [
        _drawn(
            "scene",
            "The scene",
            f"The image and what is really in it. {f'Red: the {shown.named} the word names.' if shown.objects else ''}",
            (4.0, 3.8),
            lambda ax: plot.scene(image, shown.scene.objects, chosen=shown.named, ax=ax),
        ),
        _drawn(
            "attention",
            f"Attention as “{word}” is said",
            "How much each image token is attended to in the row that emits the word, mean over all layers and heads.",
            (4.6, 3.8),
            laid(shown.attention, "attention, mean"),
        ),
        _drawn(
            "saliency",
            f"Saliency for “{word}”",
            "The same attention times the gradient of the word's loss with respect to it, |A · ∂loss/∂A|: attention that mattered.",
            (4.6, 3.8),
            laid(shown.saliency, "|A · ∂loss/∂A|, nats"),
        ),
    ]


def _attention(study: Study) -> list[Picture]:
    looked = len(study.looks)
    shown = study.shown
    first = len(shown.prompt) - len(shown.prompt.response_ids)
    said = shown.prompt.tokens[first:]
    image_share = shown.shares(study.rest.positions).mean(0)[:, PARTS.index("IMAGE")]
    return [
        _drawn(
            "layers",
            "Where attention goes, by layer",
            f"Share of each part in the rows that emit the reply, mean over heads and {looked} replies. SINK is the resting token, "
            "taken out of the segment it lies in.",
            (5.2, 3.2),
            lambda ax: plot.shares(study.by_layer, PARTS, ax=ax),
        ),
        _drawn(
            "steps",
            "Where attention goes, along the reply",
            f"The same by reply token, mean over layers, heads and those of {looked} replies that are that long; "
            "drawn while at least half of them are.",
            (5.2, 3.2),
            lambda ax: plot.shares(study.by_step, PARTS, along="reply token", ax=ax),
        ),
        _drawn(
            "words",
            "The image's share, word by word",
            "The reply shown above; the lighter a word, the more attention went to the image as it was emitted.",
            (5.0, 1.1 + 0.36 * (1 + sum(len(w) + 2 for w in said) // 40)),
            lambda ax: plot.coloured_words(
                said, image_share, columns=40, label="share of attention on the image", ax=ax
            ),
        ),
    ]


def _resting(study: Study) -> list[Picture]:
    table, rest = study.shown.table, study.rest
    said = " and ".join(f"“{plot.shown(w)}”" for w in rest.words)
    heads = table.received[:, :, list(rest.positions)].sum(-1)
    return [
        _drawn(
            "sinks",
            "Attention received, by token",
            "The tokens that get most attention from those that see them, mean over heads, in the order of the conversation; "
            "a star marks a sink by the default bounds.",
            (5.0, 4.2),
            lambda ax: plot.received(table, ax=ax),
        ),
        _drawn(
            "heads",
            f"Which heads rest on {said}",
            "Attention that every head of every layer gives it, mean over the tokens of the conversation shown.",
            (5.0, 3.4),
            lambda ax: plot.heatmap(
                heads, "attention received, α (0 to 1)", layers=table.layers, limits=(0.0, 1.0), ax=ax
            ),
        ),
        _drawn(
            "massive",
            "Massive activations",
            "The largest absolute entry of the residual stream after each layer, for the tokens where it is furthest from the "
            "median entry. "
            "Above the dotted line an activation counts as massive.",
            (5.0, 3.8),
            lambda ax: plot.massive(table, ax=ax),
        ),
    ]


def _effects(study: Study) -> Picture:
    names = [o.treatment.name for o in study.outcomes]
    scores = (
        ("yes/no accuracy", [o.yes_no.accuracy for o in study.outcomes]),
        ("CHAIR_s: captions that invent an object", [o.captions.chair_s for o in study.outcomes]),
        ("recall: visible objects that captions name", [o.captions.recall for o in study.outcomes]),
    )
    draw = (
        lambda ax, label=label, found=found: plot.rates(
            names, [r.value for r in found], [r.interval for r in found], label, ax=ax
        )
        for label, found in scores
    )
    caption = "Dots are shares over the same questions and scenes, bars their 95 % intervals (Wilson), the dotted line the model as it is."
    return Picture("effects", "Before and after", caption, png(*draw, size=(5.4, 5.4)))
