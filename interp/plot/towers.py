"""A quantity per token and dimension as towers in 3D, which shows the few largest entries of a residual stream."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from interp.plot.style import GREY, RED, style, word_label


def towers(
    values: Float[Tensor, "token dim"], words: Sequence[str], ax: Axes | None = None, *, named: int = 2, most: int = 400
) -> Axes:
    """Draw |value| as a tower at its token and dimension; the largest ones are labelled with token and dimension.

    Args:
        values: the residual stream after one layer.
        words: its tokens as text.
        ax: axes with `projection="3d"`; a new figure by default.
        named: the number of largest entries to label, in red.
        most: the number of entries to draw.

    Raises:
        ValueError: the numbers of words and tokens differ, or the axes are not 3D.

    References: Sun et al., Massive Activations (2024), figure 1; SPEAR, figure 3. Differs: no.
    """
    if len(words) != len(values):
        raise ValueError(f"{len(words)} words were given for {len(values)} tokens")
    if ax is not None and ax.name != "3d":
        raise ValueError("towers need 3D axes: pass axes made with projection='3d'")
    with style():
        if ax is None:
            from matplotlib import pyplot

            ax = pyplot.figure(figsize=(5.4, 4.4), layout="constrained").add_subplot(projection="3d")
        space: Any = ax
        sizes = values.detach().cpu().float().abs()
        flat, where = sizes.flatten().topk(min(most, sizes.numel()))
        for rank in range(len(flat) - 1, -1, -1):
            token, dim = divmod(int(where[rank]), values.shape[1])
            line = {"color": RED, "linewidth": 2.2} if rank < named else {"color": GREY, "linewidth": 0.8}
            space.plot([dim, dim], [token, token], [0, float(flat[rank])], **line)
        for place in where[:named].tolist():
            token, dim = divmod(place, values.shape[1])
            space.text(
                dim, token, float(sizes[token, dim]), f" {word_label(words[token])}, {dim}", color=RED, fontsize=8
            )
        space.set(xlabel="dimension", ylabel="token position", zlabel="|entry| of the stream")
        space.set(xlim=(0, values.shape[1]), ylim=(0, len(words)), zlim=(0, float(flat[0]) or 1.0))
        space.set_box_aspect(None, zoom=0.8)  # leave room for the labels
    return ax
