"""`render_reply`: the page about one question under several variants, as one HTML file that loads nothing.

Model output is untrusted: it reaches the page as JSON data and is only ever set as text, and a Content-Security-Policy allows no script
but the page's own.
"""

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
from interp.data.display import format_token
from interp.data.images import read_image
from interp.data.prompt import Prompt
from interp.data.tokens import Segment
from interp.report.collect import ReplyComparison
from interp.report.labels import TOKEN_LABELS
from interp.report.packing import PackedArrays
from interp.report.reply_view import SHARES, ForcedReply, ReplyView

_SCRIPTS: Final = ("arrays.js", "colours.js", "maps.js", "charts.js", "replies.js", "token.js", "reply.js")
"""The parts of the page's script; each may use those before it."""
_LARGEST: Final = 768
"""The longer side of an image on the page, in pixels; larger images are scaled down."""
_LOSSLESS: Final = 256
"""Images up to this size are stored as PNG, larger ones as JPEG."""


def render_reply(comparison: ReplyComparison, *, command: str) -> str:
    """Return the page.

    Args:
        comparison: the content of the page.
        command: the command that made it.
    """
    arrays = PackedArrays()
    data = _page_data(comparison, arrays)
    data["arrays"] = arrays.encode()
    pages = files("interp.report")
    css = pages.joinpath("reply.css").read_text(encoding="utf-8")
    script = "\n".join(pages.joinpath(name).read_text(encoding="utf-8") for name in _SCRIPTS)
    versions = ", ".join(f"{name} {version(name)}" for name in ("interp", "torch", "transformers"))
    return Template(pages.joinpath("reply.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{comparison.prompt.text} – {comparison.model}"),
        policy=_policy(css, script),
        css=css,
        script=script,
        data=_script_json(data),
        question=escape(comparison.prompt.text),
        model=escape(comparison.model),
        image=escape(
            comparison.image or (f"{len(comparison.prompt.images)} unnamed" if comparison.prompt.images else "none")
        ),
        truth=f"<p class=truth><b>True content:</b> {escape(comparison.truth)}</p>" if comparison.truth else "",
        command=escape(command),
        versions=escape(f"{versions}, python {platform.python_version()}"),
    )


def _policy(css: str, script: str) -> str:
    """Return a Content-Security-Policy that allows this style and this script, by their hashes, and nothing else."""
    hashes = {
        name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for name, text in (("style", css), ("script", script))
    }
    sources = " ".join(f"{name}-src 'sha256-{code}';" for name, code in hashes.items())
    return f"default-src 'none'; {sources} img-src data:; base-uri 'none'; form-action 'none'"


def _script_json(data: dict[str, Any]) -> str:
    """Return data as JSON that cannot end its script element."""
    # Escaped in the JSON itself: inside a script element, HTML entities are not decoded, and `</script>` ends it even in a string.
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _page_data(comparison: ReplyComparison, arrays: PackedArrays) -> dict[str, Any]:
    return {
        "parts": SHARES,
        "colours": {
            "parts": [colours.SEGMENT_COLOURS[p] for p in SHARES],
            "attention": colours.WARM,
            "saliency": colours.COOL,
            "plain": colours.PLAIN,
            "blue": colours.BLUE,
            "orange": colours.RED,
        },
        "labels": TOKEN_LABELS,
        "images": [_image(one) for one in comparison.prompt.images],
        "places": _places(comparison.prompt),
        "replies": [_reply(v, labels, arrays) for v, labels in zip(comparison.views, comparison.labels, strict=True)],
        "forced": [_forced(f, arrays) for f in comparison.forced],
    }


def _image(source: Any) -> dict[str, Any]:
    picture = read_image(source)
    width, height = picture.size
    picture.thumbnail((_LARGEST, _LARGEST), Image.Resampling.LANCZOS)
    kind = "PNG" if max(width, height) <= _LOSSLESS else "JPEG"
    file = io.BytesIO()
    picture.save(file, kind)
    url = f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"width": width, "height": height, "url": url}


def _places(prompt: Prompt) -> list[dict[str, Any]]:
    """Return the place of every image token on its image; boxes are in fractions of the image's width and height."""
    sizes = [read_image(one).size for one in prompt.images]
    places = []
    for position, place in prompt.layout.places().items():
        width, height = sizes[place.image] if place.image < len(sizes) else (1, 1)
        box = place.box and [round(x / s, 5) for x, s in zip(place.box, (width, height) * 2, strict=True)]
        places.append(
            {"at": position, "image": place.image, "row": place.row, "col": place.col, "tile": place.tile, "box": box}
        )
    return places


def _reply(view: ReplyView, labels: tuple[str, ...], arrays: PackedArrays) -> dict[str, Any]:
    layout = view.prompt.layout
    image = layout.mask(Segment.IMAGE)
    scores = {}
    if view.previous is not None:
        scores["previous"] = view.previous
    if view.saliency is not None and bool(image.any()):
        scores["salient_image"] = view.saliency[..., image].sum(-1).mean((0, 1))
    if bool(image.any()):
        scores["on_image"] = view.attention[..., image].sum(-1).mean((0, 1))
    return {
        "name": view.variant.name,
        "interventions": view.variant.settings,
        "notes": view.notes,
        "words": [format_token(word) for word in view.prompt.tokens],
        "segments": layout.names,
        "first": len(view.prompt) - len(view.reply.ids),
        "labels": labels,
        "logprobs": _rounded(view.reply.logprobs),
        "layers": view.sinks.layers,
        "heads": view.attention.shape[1],
        "scores": {name: _rounded(values.tolist()) for name, values in scores.items()},
        "attention": arrays.add_rows(view.attention),
        "saliency": None if view.saliency is None else arrays.add_rows(view.saliency),
        "shares": arrays.add_shares(view.shares),
        "sinks": view.sinks.rows(),
        "drift": _drift(view),
    }


def _drift(view: ReplyView) -> dict[str, Any] | None:
    drift = view.drift
    if drift is None:
        return None
    count = len(view.reply.ids)
    return {
        "positive": [_rounded(line) for line in drift.r_positive[:, :count].tolist()],
        "negative": [_rounded(line) for line in drift.r_negative[:, :count].tolist()],
        "entropy": [_rounded(line) for line in drift.entropy[:, :count].tolist()],
        "anchors": [row.nonzero().flatten().tolist() for row in drift.positive[:count]],
        "middle": drift.middle,
        "first": drift.first,
    }


def _forced(one: ForcedReply, arrays: PackedArrays) -> dict[str, Any]:
    return {
        "logprobs": _rounded(one.logprobs),
        "maps": arrays.add_rows(one.maps),
        "shares": arrays.add_shares(one.shares),
    }


def _rounded(values: Sequence[float]) -> list[float | None]:
    return [float(f"{value:.4g}") if math.isfinite(value) else None for value in values]
