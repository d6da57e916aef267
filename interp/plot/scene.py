"""A drawn scene with the boxes of its objects."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from interp.data.images import read_image
from interp.plot.style import ORANGE, RED, axes_or_new, style


@runtime_checkable
class Boxed(Protocol):
    """An object with a name and a box (left, top, right, bottom) in pixels."""

    @property
    def name(self) -> str:
        """The name of the object."""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in pixels."""


def scene(image: Any, objects: Sequence[Boxed], *, chosen: str = "", ax: Axes | None = None) -> Axes:
    """Draw an image with a named box around each object.

    Args:
        image: PIL, path or array.
        objects: the objects.
        chosen: the name of the objects to highlight.
        ax: where to draw; a new figure by default.
    """
    picture = read_image(image)
    with style():
        ax = axes_or_new(ax, (3.6, 3.6))
        width, height = picture.size
        ax.imshow(picture, extent=(0, width, height, 0))
        for thing in objects:
            left, top, right, bottom = thing.box
            colour, stroke = (RED, 2.2) if thing.name == chosen else (ORANGE, 1.2)
            ax.add_patch(
                Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=stroke)
            )
            below = top < 0.09 * height
            name = ax.text(
                min(left, 0.8 * width), bottom if below else top, thing.name, size=9, va="top" if below else "bottom"
            )
            name.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
        ax.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xlabel="pixel column", ylabel="pixel row")
    return ax
