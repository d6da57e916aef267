"""The page about a comparison: one HTML file that needs nothing else, in which nothing a model said is ever markup."""

import base64
import hashlib
import io
import json
import math
import platform
from collections.abc import Sequence
from html import escape
from importlib.metadata import version
from importlib.resources import files
from string import Template
from typing import Any, Final

from PIL import Image

from interp.data import colours
from interp.data.display import visible
from interp.data.images import read_image
from interp.data.prompt import Prompt
from interp.data.tokens import Segment
from interp.report.comparison import Comparison
from interp.report.labels import LABELS
from interp.report.looking import PARTS
from interp.report.packing import Block
from interp.report.reading import Forced, Reading

SCRIPTS: Final = ("arrays.js", "colours.js", "maps.js", "charts.js", "replies.js", "token.js", "reply.js")
"""The page's script, in the order in which its parts need each other."""
LARGEST: Final = 768
"""Pixels of the longer side of an image on the page."""
SMALL: Final = 256
"""Images up to this size are kept without loss."""


def token_page(found: Comparison, *, command: str) -> str:
    """Return the page: one file that needs nothing else, in which nothing a model said is ever markup.

    Args:
        found: what is shown.
        command: the command that made it.
    """
    block = Block()
    data = _plain(found, block)
    data["arrays"] = block.packed()
    pages = files("interp.report")
    css = pages.joinpath("reply.css").read_text(encoding="utf-8")
    script = "\n".join(pages.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS)
    made = ", ".join(f"{name} {version(name)}" for name in ("interp", "torch", "transformers"))
    return Template(pages.joinpath("reply.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{found.prompt.text} – {found.model}"),
        policy=_policy(css, script),
        css=css,
        script=script,
        data=_in_a_page(data),
        question=escape(found.prompt.text),
        model=escape(found.model),
        image=escape(found.image or (f"{len(found.prompt.images)} given" if found.prompt.images else "none")),
        truth=f"<p class=truth><b>What is there:</b> {escape(found.truth)}</p>" if found.truth else "",
        command=escape(command),
        versions=escape(f"{made}, python {platform.python_version()}"),
    )


def _policy(css: str, script: str) -> str:
    """Return a Content-Security-Policy that lets this style and this script run and nothing else, and loads nothing."""
    told = {
        name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for name, text in (("style", css), ("script", script))
    }
    sources = " ".join(f"{name}-src 'sha256-{code}';" for name, code in told.items())
    return f"default-src 'none'; {sources} img-src data:; base-uri 'none'; form-action 'none'"


def _in_a_page(data: dict[str, Any]) -> str:
    """Return data as JSON in which nothing can end the element it stands in."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(found: Comparison, block: Block) -> dict[str, Any]:
    return {
        "parts": PARTS,
        "colours": {
            "parts": [colours.SEGMENT_COLOURS[p] for p in PARTS],
            "attention": colours.WARM,
            "saliency": colours.COOL,
            "plain": colours.PLAIN,
            "blue": colours.BLUE,
            "orange": colours.RED,
        },
        "labels": LABELS,
        "images": [_image(one) for one in found.prompt.images],
        "places": _places(found.prompt),
        "readings": [_reading(r, named, block) for r, named in zip(found.readings, found.labels, strict=True)],
        "forced": [_forced(f, block) for f in found.forced],
    }


def _image(source: Any) -> dict[str, Any]:
    picture = read_image(source)
    width, height = picture.size
    picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    kind = "PNG" if max(width, height) <= SMALL else "JPEG"
    file = io.BytesIO()
    picture.save(file, kind)
    url = f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"width": width, "height": height, "url": url}


def _places(prompt: Prompt) -> list[dict[str, Any]]:
    """Return where on its image every image token is, its box in parts of the image's width and height."""
    sizes = [read_image(one).size for one in prompt.images]
    found = []
    for position, place in prompt.layout.places().items():
        width, height = sizes[place.image] if place.image < len(sizes) else (1, 1)
        box = place.box and [round(x / s, 5) for x, s in zip(place.box, (width, height) * 2, strict=True)]
        found.append(
            {"at": position, "image": place.image, "row": place.row, "col": place.col, "tile": place.tile, "box": box}
        )
    return found


def _reading(reading: Reading, named: tuple[str, ...], block: Block) -> dict[str, Any]:
    layout = reading.prompt.layout
    image = layout.mask(Segment.IMAGE)
    scores = {}
    if reading.score is not None:
        scores["score"] = reading.score
    if reading.saliency is not None and bool(image.any()):
        scores["salient_image"] = reading.saliency[..., image].sum(-1).mean((0, 1))
    if bool(image.any()):
        scores["on_image"] = reading.attention[..., image].sum(-1).mean((0, 1))
    return {
        "name": reading.variant.name,
        "changes": reading.variant.told,
        "notes": reading.notes,
        "words": [visible(word) for word in reading.prompt.tokens],
        "segments": layout.names,
        "first": len(reading.prompt) - len(reading.reply.ids),
        "labels": named,
        "logprobs": _rounded(reading.reply.logprobs),
        "layers": reading.sinks.layers,
        "heads": reading.attention.shape[1],
        "scores": {name: _rounded(values.tolist()) for name, values in scores.items()},
        "attention": block.rows(reading.attention),
        "saliency": None if reading.saliency is None else block.rows(reading.saliency),
        "shares": block.shares(reading.shares),
        "sinks": reading.sinks.rows(),
        "drift": _drift(reading),
    }


def _drift(reading: Reading) -> dict[str, Any] | None:
    drift = reading.drift
    if drift is None:
        return None
    count = len(reading.reply.ids)
    return {
        "positive": [_rounded(line) for line in drift.r_positive[:, :count].tolist()],
        "negative": [_rounded(line) for line in drift.r_negative[:, :count].tolist()],
        "entropy": [_rounded(line) for line in drift.entropy[:, :count].tolist()],
        "anchors": [row.nonzero().flatten().tolist() for row in drift.positive[:count]],
        "middle": drift.middle,
        "first": drift.first,
    }


def _forced(one: Forced, block: Block) -> dict[str, Any]:
    return {"logprobs": _rounded(one.logprobs), "maps": block.rows(one.maps), "shares": block.shares(one.shares)}


def _rounded(values: Sequence[float]) -> list[float | None]:
    return [float(f"{value:.4g}") if math.isfinite(value) else None for value in values]
