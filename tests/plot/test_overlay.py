"""The overlay draws a token's value on the pixels that the token saw, and nowhere else."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import interp
from interp.data.layout import Grid, Layout
from interp.data.tokens import Segment
from interp.families.base import family
from interp.plot import overlay

ZOOM = 4


def layout_of(*grids: Grid) -> Layout:
    count = sum(g.rows * g.cols for g in grids)
    return Layout(torch.tensor([Segment.SYSTEM.value, *[Segment.IMAGE.value] * count, Segment.USER.value]), grids)


def bright_box(values, layout, size, rendered, image_index=0) -> tuple[float, ...]:
    """Return the box, in pixels of the image, in which a rendered overlay has the colour of the highest value: yellow."""
    width, height = size
    figure = Figure(figsize=(width * ZOOM / 100, height * ZOOM / 100), dpi=100)
    ax = figure.add_axes((0, 0, 1, 1))
    overlay(Image.new("RGB", size, (128, 128, 128)), values, layout, image_index, ax=ax)
    ax.set_axis_off()
    pixels = rendered(ax)
    assert pixels.shape == (height * ZOOM, width * ZOOM, 3)
    rows, cols = np.nonzero(pixels[..., 0] - pixels[..., 2] > 60)
    return (cols.min() / ZOOM, rows.min() / ZOOM, (cols.max() + 1) / ZOOM, (rows.max() + 1) / ZOOM)


@pytest.mark.parametrize(
    ("grid", "size", "row", "col", "box"),
    [
        (Grid(0, 4, 4, (0.0, 0.0, 32.0, 32.0)), (32, 32), 1, 2, (16, 8, 24, 16)),
        (Grid(0, 2, 5, (0.0, 0.0, 50.0, 20.0)), (50, 20), 1, 3, (30, 10, 40, 20)),
        (Grid(0, 5, 2, (0.0, 0.0, 20.0, 50.0)), (20, 50), 4, 0, (0, 40, 10, 50)),
        (Grid(0, 3, 3, (10.0, 0.0, 40.0, 30.0)), (50, 30), 2, 2, (30, 20, 40, 30)),  # a crop from the middle
        (
            Grid(0, 2, 2, (-8.0, -8.0, 40.0, 40.0)),
            (32, 32),
            0,
            0,
            (0, 0, 16, 16),
        ),  # padded: half of the patch is no image
    ],
    ids=["square", "wide", "tall", "cropped", "padded"],
)
def test_a_bright_patch_lies_where_its_token_looked(grid, size, row, col, box, rendered) -> None:
    values = torch.zeros(grid.rows * grid.cols)
    values[row * grid.cols + col] = 1.0
    assert bright_box(values, layout_of(grid), size, rendered) == box


def test_a_tile_is_drawn_at_its_place_and_shares_its_pixels_with_the_whole(rendered) -> None:
    layout = layout_of(Grid(0, 2, 2, (0.0, 0.0, 40.0, 40.0)), Grid(0, 2, 2, (20.0, 20.0, 40.0, 40.0), tile=1))
    values = torch.zeros(8)
    values[4] = 1.0
    assert bright_box(values, layout, (40, 40), rendered) == (20, 20, 30, 30)
    ax = overlay(Image.new("RGB", (40, 40)), values, layout)
    drawn = ax.images[1].get_array()
    assert float(drawn[25, 25]) == 0.5  # the mean of the tile's token and of the whole image's
    assert float(drawn[5, 5]) == 0.0


def test_each_image_gets_its_own_tokens(rendered) -> None:
    layout = layout_of(Grid(0, 1, 2, (0.0, 0.0, 20.0, 10.0)), Grid(1, 2, 1, (0.0, 0.0, 10.0, 20.0)))
    values = torch.tensor([1.0, 0.0, 0.0, 1.0])
    assert bright_box(values, layout, (20, 10), rendered, 0) == (0, 0, 10, 10)
    assert bright_box(values, layout, (10, 20), rendered, 1) == (0, 10, 10, 20)
    first = overlay(Image.new("RGB", (20, 10)), values, layout).images[1].get_array()
    np.testing.assert_array_equal(first.filled(-1), np.repeat([[1.0] * 10 + [0.0] * 10], 10, 0))


def test_pixels_that_no_token_saw_show_the_image_alone() -> None:
    ax = overlay(Image.new("RGB", (50, 30)), torch.ones(4), layout_of(Grid(0, 2, 2, (10.0, 0.0, 40.0, 30.0))))
    seen = ~np.ma.getmaskarray(ax.images[1].get_array())
    assert seen[:, 10:40].all()
    assert not seen[:, :10].any()
    assert not seen[:, 40:].any()


def test_tokens_without_a_place_become_a_strip_below() -> None:
    ax = overlay(Image.new("RGB", (40, 20)), torch.tensor([0.0, 1.0, 0.5]), layout_of(Grid(0, 1, 3, None)))
    strip = ax.images[-1]
    np.testing.assert_allclose(np.asarray(strip.get_array()), [[0.0, 1.0, 0.5]])
    left, right, bottom, top = strip.get_extent()
    assert (left, right) == (0, 40)
    assert 20 < top < bottom == ax.get_ylim()[0]


@pytest.mark.parametrize("kind", ["llava", "llava_next", "qwen2_vl", "internvl"])
def test_the_brightest_pixel_is_in_the_patch_of_a_real_processor(kind) -> None:
    model = interp.load(family(kind).tiny()[0], processor=family(kind).tiny()[1])
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 56, 3), dtype=np.uint8))
    layout = model.prepare(image, "What is this?").layout
    places = layout.places()
    for index, position in enumerate(places):
        values = torch.zeros(len(places))
        values[index] = 1.0
        drawn = overlay(image, values, layout).images[1].get_array()
        rows, cols = np.nonzero(drawn.filled(0) > 0)
        x0, y0, x1, y1 = (round(edge) for edge in places[position].box)
        assert (cols.min(), rows.min(), cols.max() + 1, rows.max() + 1) == (
            max(x0, 0),
            max(y0, 0),
            min(x1, 56),
            min(y1, 40),
        )
        import matplotlib.pyplot as plt

        plt.close("all")


def test_it_draws_on_the_axes_given_and_says_what_is_drawn(ax) -> None:
    drawn = overlay(
        Image.new("RGB", (8, 8)),
        torch.ones(1),
        layout_of(Grid(0, 1, 1, (0.0, 0.0, 8.0, 8.0))),
        label="attention",
        ax=ax,
    )
    assert drawn is ax
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("pixel column", "pixel row")
    assert ax.figure.axes[1].get_ylabel() == "attention"


def test_wrong_counts_and_images_are_refused() -> None:
    layout = layout_of(Grid(0, 2, 2, (0.0, 0.0, 8.0, 8.0)))
    with pytest.raises(ValueError, match="3 values were given for 4 image tokens; take them with"):
        overlay(Image.new("RGB", (8, 8)), torch.ones(3), layout)
    with pytest.raises(ValueError, match=r"no image 1; it has \[0\]"):
        overlay(Image.new("RGB", (8, 8)), torch.ones(4), layout, 1)


EXAMPLES = {"overlay.overlay": lambda examples: (examples.image, examples.waves(4), examples.layout)}
