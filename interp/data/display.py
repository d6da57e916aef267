"""The HTML that a notebook shows of a value: plain and escaped, without scripts and without a plotting library.

The `..._card` functions draw whole values for `_repr_html_`; the others draw their parts.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import fields
from html import escape
from itertools import groupby
from typing import Any, Final

from jaxtyping import Float
from torch import Tensor

from interp.data.colours import PLAIN, SEGMENT_COLOURS, WARM, ink, shade

MOST_ROWS: Final = 12
"""The largest number of rows of a table that a notebook shows."""
THUMBNAIL: Final = 160
"""Pixels of the longer side of an image or a heat map."""
MOST_REPEATS: Final = 4
"""The largest number of times that the same word is shown in a row."""
FIRST: Final = ("layer", "depth", "sample", "step", "segment", "candidate", "head", "kv_head", "token", "query")
"""The axes of an array that are shown if it has more than two, in order of preference."""


def format_token(word: str) -> str:
    """Return a token as readable text: line breaks, tabs and lone spaces are made visible."""
    return word.replace("\n", "\\n").replace("\t", "\\t") if word.strip() else repr(word)[1:-1] or "''"


def card(title: str, *parts: str) -> str:
    """Return parts, which are HTML already, under a title."""
    return (
        '<div style="border:1px solid #d8dee4;border-radius:6px;padding:.6em .8em;margin:.3em 0;max-width:60em;line-height:1.5">'
        f"<div><b>{escape(title)}</b></div>{''.join(parts)}</div>"
    )


def note_html(text: str) -> str:
    """Return a line of small print."""
    return f'<div style="color:#59636e;font-size:.88em">{escape(text)}</div>'


def table_html(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table: at most its first `MOST_ROWS` rows, and how many more it has."""
    head = _line("th", heads)
    lines = "".join(_line("td", row) for row in rows[:MOST_ROWS])
    left = note_html(f"... and {len(rows) - MOST_ROWS} more rows") if len(rows) > MOST_ROWS else ""
    return f'<div style="overflow-x:auto"><table><thead>{head}</thead><tbody>{lines}</tbody></table></div>{left}'


def segments_html(words: Sequence[str], names: Sequence[str]) -> str:
    """Return tokens coloured by their segment; adjacent image tokens are shown as one entry.

    Args:
        words: the tokens.
        names: the name of the segment of each token.
    """
    said = []
    for name, run in groupby(zip(names, words, strict=True), key=lambda pair: pair[0]):
        ground, inside = _tint(name), [word for _, word in run]
        whole = [f"▦ {len(inside)} image tokens"] if name == "IMAGE" else [format_token(word) for word in inside]
        said += [_word(word, ground, name) for word in whole]
    legend = "".join(_word(name, _tint(name), "segment") for name in dict.fromkeys(names))
    return f'<div style="margin:.3em 0">{"".join(said)}</div><div style="font-size:.85em">{legend}</div>'


def scores_html(words: Sequence[str], values: Sequence[float], label: str) -> str:
    """Return tokens coloured by a score, darker for larger scores, with the colour scale below.

    A word repeated many times in a row, such as the placeholder of image tokens, is shown once, with its mean score.

    Args:
        words: the tokens.
        values: the scores, at least 0, where the scale begins.
        label: the quantity, with its unit.
    """
    most = max([v for v in values if v == v], default=0.0)  # noqa: PLR0124 (False for NaN)
    spans = []
    for word, run in groupby(zip(words, values, strict=True), key=lambda pair: pair[0]):
        inside = [value for _, value in run]
        whole = (
            [(f"{format_token(word)} × {len(inside)}", sum(inside) / len(inside))]
            if len(inside) > MOST_REPEATS
            else None
        )
        spans += [
            _word(text, shade(v / most if most > 0 else 0.0), f"{v:.3g}")
            for text, v in whole or [(format_token(word), v) for v in inside]
        ]
    return f'<div style="margin:.3em 0">{"".join(spans)}</div>{_scale(0.0, most, label)}'


def heat_map(values: Float[Tensor, "row col"], label: str) -> str:
    """Return a picture of an array with one cell per entry, darker for larger values; NaN is grey."""
    from PIL import Image

    array = values.detach().cpu().double()
    known = array[array.isfinite()]
    low, high = (float(known.min()), float(known.max())) if known.numel() else (0.0, 0.0)
    low = min(low, 0.0)
    span = (high - low) or 1.0
    pixels = [shade((v - low) / span) if v == v else PLAIN[2] for v in array.flatten().tolist()]  # noqa: PLR0124
    picture = Image.new("RGB", (array.shape[1], array.shape[0]))
    picture.putdata([tuple(bytes.fromhex(p[1:])) for p in pixels])
    longest = max(picture.size)
    cell = max(THUMBNAIL // longest, min(4, 4 * THUMBNAIL // longest), 1)
    return _picture(picture.resize((picture.width * cell, picture.height * cell), 0), label) + _scale(low, high, label)


def thumbnail(image: Any) -> str:
    """Return an image scaled to `THUMBNAIL` pixels; small images are enlarged without smoothing."""
    from interp.data.images import read_image

    picture = read_image(image)
    if max(picture.size) > THUMBNAIL:
        picture.thumbnail((THUMBNAIL, THUMBNAIL))
    else:
        times = THUMBNAIL // max(picture.size)
        picture = picture.resize((picture.width * times, picture.height * times), 0)
    return _picture(picture, "the image")


def model_card(model: Any) -> str:
    """Return a model: its name, kind and sizes."""
    rows = [
        (n, getattr(model, n)) for n in ("layers", "heads", "kv_heads", "head_dim", "dim", "context", "dtype", "device")
    ]
    notes = "".join(note_html(text) for text in model.notes)
    return card(f"Model {model.name}", note_html(model.config.model_type), table_html(("size", "value"), rows), notes)


def layout_card(layout: Any) -> str:
    """Return a layout: its runs of tokens of the same segment, and the grids of its images."""
    runs, start = [], 0
    for name, run in groupby(layout.names):
        count = len(list(run))
        runs.append((name, f"{start} to {start + count - 1}", count))
        start += count
    grids = [(g.image, g.tile, f"{g.rows} × {g.cols}", "none" if g.box is None else g.box) for g in layout.grids]
    shown = table_html(("image", "tile", "patches", "pixel box"), grids) if grids else ""
    return card(f"Layout of {len(layout)} tokens", table_html(("segment", "positions", "tokens"), runs), shown)


def scene_card(scene: Any) -> str:
    """Return a scene of the drawn world: its image, place and objects."""
    rows = [(thing.name, thing.colour) for thing in scene.objects]
    return card(f"Scene: {scene.place}", thumbnail(scene.image), table_html(("object", "colour"), rows))


def settings_card(value: Any) -> str:
    """Return a dataclass of settings as a table of names and values."""
    rows = [(f.name, repr(getattr(value, f.name))) for f in fields(value) if f.repr]
    return card(type(value).__name__, table_html(("setting", "value"), rows) if rows else "")


def result_card(value: Any) -> str:
    """Return a result: its rows, if it has any; its summary array, as a picture or as coloured tokens; and the list of its arrays."""
    name, axes = value.summary_field(), value.axes()
    array, rows = getattr(value, name), value.rows() if callable(getattr(value, "rows", None)) else []
    words = next((w for n in ("words", "reply") if len(w := getattr(value, n, ())) == array.shape[-1]), ())
    parts = [table_html(list(rows[0]), [list(row.values()) for row in rows])] if rows else []
    parts.append(array_html(array, name, axes[name], getattr(value, "labels", {}), words))
    arrays = [(n, " ".join(a), " × ".join(map(str, getattr(value, n).shape))) for n, a in axes.items()]
    return card(type(value).__name__, *parts, table_html(("array", "axes", "shape"), arrays))


def array_html(
    array: Tensor, name: str, axes: Sequence[str], labels: Mapping[str, Sequence[Any]], words: Sequence[str] = ()
) -> str:
    """Return an array as a picture of two axes (see `FIRST`), averaged over the others; an array over tokens as coloured tokens.

    Args:
        array: the array; of an empty one, only its name is shown.
        name: its name.
        axes: the names of its axes.
        labels: the labels of the entries of an axis, by the name of the axis; without labels, entries are numbered.
        words: the tokens of the last axis, to colour them.
    """
    if not array.numel():
        return note_html(f"{name} is empty")
    if words and axes[-1] in ("token", "query", "key") and float(array.double().nan_to_num().min()) >= 0:
        mean = array.double().reshape(-1, array.shape[-1]).nanmean(0)
        over = f", mean over {', '.join(axes[:-1])}" if axes[:-1] else ""
        return scores_html(words, mean.tolist(), f"{name}{over}")
    kept = sorted(axes, key=lambda a: FIRST.index(a) if a in FIRST else len(FIRST))[:2]
    others = [i for i, a in enumerate(axes) if a not in kept]
    shown, left = array.double().nanmean(others) if others else array.double(), [a for a in axes if a in kept]
    sides = [f"{a} {_ends(labels.get(a), n)}" for a, n in zip(left, shown.shape, strict=True)]
    over = f", mean over {', '.join(axes[i] for i in others)}" if others else ""
    told = " · ".join(f"{way} {side}" for way, side in zip("↓→" if len(sides) == 2 else "→", sides, strict=False))
    return heat_map(shown.reshape(-1, shown.shape[-1] if left else 1), f"{name}{over}") + note_html(told)


def _ends(labels: Sequence[Any] | None, count: int) -> str:
    if labels and len(labels) <= 6 and isinstance(labels[0], str):
        return ", ".join(labels)
    first, last = (labels[0], labels[-1]) if labels else (0, count - 1)
    return f"{first}" if count == 1 else f"{first} to {last}"


def _line(kind: str, cells: Sequence[Any]) -> str:
    inside = "".join(
        f'<{kind} style="text-align:left;padding-right:1em">{escape(_cell(cell))}</{kind}>' for cell in cells
    )
    return f"<tr>{inside}</tr>"


def _word(text: str, ground: str, title: str) -> str:
    style = f"background:{ground};color:{ink(ground)};border-radius:3px;padding:0 .25em;margin:1px;display:inline-block"
    return f'<span style="{style}" title="{escape(title)}">{escape(text)}</span>'


def _tint(name: str) -> str:
    return shade(0.35, ("#ffffff", SEGMENT_COLOURS.get(name, SEGMENT_COLOURS["PAD"])))


def _scale(low: float, high: float, label: str) -> str:
    style = f"display:inline-block;width:6em;height:.7em;background:linear-gradient(to right,{','.join(WARM)})"
    return f'<div style="font-size:.85em;color:#59636e">{low:.3g} <span style="{style}"></span> {high:.3g} {escape(label)}</div>'


def _picture(picture: Any, label: str) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{escape(label)}" src="data:image/png;base64,{data}" style="border:1px solid #d8dee4;margin:.3em .5em .1em 0">'


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {_cell(v)}" for k, v in value.items())
    return ", ".join(map(_cell, value)) if isinstance(value, (list, tuple)) else str(value)
