"""A quantity per image token, drawn on the image."""

from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from interp.data.images import read_image
from interp.data.layout import Layout, Place
from interp.plot.style import SEQUENTIAL, axes_or_new, style

STRIP = 0.12
"""Height of the strip for tokens without a place, as a fraction of the image's height."""


def overlay(
    image: Any,
    values: Float[Tensor, " token"],
    layout: Layout,
    image_index: int = 0,
    *,
    label: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw the image in grey under a map of the values of its tokens, each on the pixels that the token covers.

    Pixels covered by several tokens (the whole image and a tile of it) show the mean. Tokens without a place on the image
    (Q-Former queries) are drawn as a strip under it, in their order.

    Args:
        image: the image the prompt was made from: PIL, path or array.
        values: one per image token of the whole prompt, in order.
        layout: the prompt's layout.
        image_index: the index of the image in the prompt.
        label: what the values are, with their unit, for the colour bar; none by default.
        ax: where to draw; a new figure by default.

    Raises:
        ValueError: the number of values differs from that of image tokens, or the layout does not have the image.
    """
    places = list(layout.places().values())
    if len(values) != len(places):
        raise ValueError(
            f"{len(values)} values were given for {len(places)} image tokens; "
            "take them with array[..., layout.mask(Segment.IMAGE)]"
        )
    images = sorted({p.image for p in places})
    if image_index not in images:
        raise ValueError(f"the layout has no image {image_index}; it has {images or 'none'}")
    numbers = values.detach().cpu().float().numpy()
    mine = [(p, float(v)) for p, v in zip(places, numbers, strict=True) if p.image == image_index]
    picture = read_image(image)
    with style():
        ax = axes_or_new(ax, (4.2, 3.6))
        width, height = picture.size
        seen = _seen(mine, width, height)
        unplaced = [v for p, v in mine if p.box is None]
        every = np.concatenate([seen.compressed(), unplaced])
        limits: dict[str, Any] = {"vmin": min(0.0, every.min()), "vmax": every.max() or 1.0, "cmap": SEQUENTIAL}
        ax.imshow(picture.convert("L"), cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
        drawn = ax.imshow(seen, alpha=0.62, extent=(0, width, height, 0), **limits)
        bottom = float(height)
        if unplaced:
            bottom = height * (1 + 1.5 * STRIP)
            ax.imshow([unplaced], aspect="auto", extent=(0, width, bottom, height * (1 + 0.5 * STRIP)), **limits)
        ax.set(xlim=(0, width), ylim=(bottom, 0), aspect="equal", xlabel="pixel column", ylabel="pixel row")
        if label:
            ax.figure.colorbar(drawn, ax=ax, label=label)
    return ax


def _seen(placed: list[tuple[Place, float]], width: int, height: int) -> np.ma.MaskedArray:
    """Return the mean value of the tokens that cover each pixel (row, col); pixels without a token are masked."""
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for place, value in placed:
        if place.box is not None:
            x0, y0, x1, y1 = (max(round(edge), 0) for edge in place.box)
            total[y0:y1, x0:x1] += value
            count[y0:y1, x0:x1] += 1
    return np.ma.masked_array(total / np.maximum(count, 1), mask=count == 0)
