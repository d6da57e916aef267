"""The figures of the study page, as PNG files with title and caption."""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from interp import plot
from interp.data.tokens import Segment
from interp.plot.files import Draw, png
from interp.report.collect import Study
from interp.report.reply_view import SHARES
from interp.report.scene_reply import SceneReply


@final
@dataclass(frozen=True)
class StudyFigure:
    """One figure of the page.

    Args:
        name: the name of its file, without the ending.
        title: its heading.
        caption: its caption.
        png: the content of the file.
    """

    name: str
    title: str
    caption: str
    png: bytes


def draw_figures(study: Study) -> dict[str, StudyFigure]:
    """Return every figure of the page by name, in the order of the page."""
    every = [*_reply(study.shown), *_attention(study), *_sinks(study), _effects(study)]
    return {figure.name: figure for figure in every}


def _figure(name: str, title: str, caption: str, size: tuple[float, float], draw: Draw) -> StudyFigure:
    return StudyFigure(name, title, caption, png(draw, size=size))


def _reply(shown: SceneReply) -> list[StudyFigure]:
    image, layout, word = shown.scene.image, shown.view.prompt.layout, shown.word.strip()

    def overlay(values: Tensor, label: str) -> Draw:
        chosen = values[list(layout.positions(Segment.IMAGE))]
        return lambda ax: plot.overlay(image, chosen, layout, label=label, ax=ax)

    return [
        _figure(
            "scene",
            "The scene",
            f"The image with its true objects. {f'Red: the {shown.named} that the word names.' if shown.objects else ''}",
            (4.0, 3.8),
            lambda ax: plot.scene(image, shown.scene.objects, chosen=shown.named, ax=ax),
        ),
        _figure(
            "attention",
            f"Attention when “{word}” is predicted",
            "Attention to each image token in the row that predicts the word, mean over all layers and heads.",
            (4.6, 3.8),
            overlay(shown.attention, "attention, mean"),
        ),
        _figure(
            "saliency",
            f"Saliency for “{word}”",
            "The same attention times the gradient of the word's loss with respect to it, |A · ∂loss/∂A|: attention that affects the word.",
            (4.6, 3.8),
            overlay(shown.saliency, "|A · ∂loss/∂A|, nats"),
        ),
    ]


def _attention(study: Study) -> list[StudyFigure]:
    count = len(study.replies)
    shown = study.shown
    first = len(shown.view.prompt) - len(shown.view.prompt.response_ids)
    words = shown.view.prompt.tokens[first:]
    image_share = shown.shares(study.sinks.positions).mean(0)[:, SHARES.index("IMAGE")]
    return [
        _figure(
            "layers",
            "Where attention goes, by layer",
            f"Share of each part in the rows that predict the reply, mean over heads and {count} replies. SINK is the attention sink, "
            "which is not counted in the segment it belongs to.",
            (5.2, 3.2),
            lambda ax: plot.shares(study.by_layer, SHARES, ax=ax),
        ),
        _figure(
            "steps",
            "Where attention goes, along the reply",
            f"The same by reply token, mean over layers, heads and those of {count} replies that are long enough; "
            "drawn up to the length that half of them reach.",
            (5.2, 3.2),
            lambda ax: plot.shares(study.by_step, SHARES, along="reply token", ax=ax),
        ),
        _figure(
            "words",
            "The image's share, word by word",
            "The reply shown above; the lighter a word, the more attention went to the image when it was predicted.",
            (5.0, 1.1 + 0.36 * (1 + sum(len(w) + 2 for w in words) // 40)),
            lambda ax: plot.coloured_words(
                words, image_share, columns=40, label="share of attention on the image", ax=ax
            ),
        ),
    ]


def _sinks(study: Study) -> list[StudyFigure]:
    table, sinks = study.shown.view.sinks, study.sinks
    words = " and ".join(f"“{plot.word_label(w)}”" for w in sinks.words)
    heads = table.received[:, :, list(sinks.positions)].sum(-1)
    return [
        _figure(
            "sinks",
            "Attention received, by token",
            "The tokens that receive the most attention from those that can see them, mean over heads, in the order of the conversation; "
            "a star marks a sink by the default thresholds.",
            (5.0, 4.2),
            lambda ax: plot.received(table, ax=ax),
        ),
        _figure(
            "heads",
            f"Heads that attend to {words}",
            "Attention of every head of every layer to it, mean over the tokens of the conversation shown.",
            (5.0, 3.4),
            lambda ax: plot.heatmap(
                heads, "attention received, α (0 to 1)", layers=table.layers, limits=(0.0, 1.0), ax=ax
            ),
        ),
        _figure(
            "massive",
            "Massive activations",
            "The largest absolute entry of the residual stream after each layer, for the tokens where it is furthest from the "
            "median entry. Activations above the dotted line count as massive.",
            (5.0, 3.8),
            lambda ax: plot.massive(table, ax=ax),
        ),
    ]


def _effects(study: Study) -> StudyFigure:
    names = [o.variant.name for o in study.outcomes]
    scores = (
        ("yes/no accuracy", [o.yes_no.accuracy for o in study.outcomes]),
        ("CHAIR_s: captions that invent an object", [o.captions.chair_s for o in study.outcomes]),
        ("recall: visible objects that captions name", [o.captions.recall for o in study.outcomes]),
    )
    draw = (
        lambda ax, label=label, rates=rates: plot.rates(
            names, [r.value for r in rates], [r.interval for r in rates], label, ax=ax
        )
        for label, rates in scores
    )
    caption = "Dots are shares over the same questions and scenes, bars their 95 % intervals (Wilson), the dotted line the baseline."
    return StudyFigure("effects", "Before and after", caption, png(*draw, size=(5.4, 5.4)))
