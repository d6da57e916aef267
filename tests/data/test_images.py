import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from interp.data.images import read_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quarters() -> Image.Image:
    """Return a picture 6 wide and 4 high whose quarters are red, green, blue and white."""
    image = Image.new("RGB", (6, 4))
    for at, colour in zip(((0, 0), (3, 0), (0, 2), (3, 2)), (RED, GREEN, BLUE, WHITE), strict=True):
        image.paste(colour, (*at, at[0] + 3, at[1] + 2))
    return image


def corners(image: Image.Image) -> list:
    """Return the colours at top left, top right, bottom left and bottom right."""
    right, bottom = image.width - 1, image.height - 1
    return [image.getpixel(at) for at in ((0, 0), (right, 0), (0, bottom), (right, bottom))]


def test_a_picture_is_the_same_however_it_comes(tmp_path):
    image = quarters()
    image.save(tmp_path / "x.png")
    array = np.asarray(image)
    for source in (
        image,
        tmp_path / "x.png",
        str(tmp_path / "x.png"),
        array,
        array.astype(np.float32) / 255,
        array.astype(np.int64),
        array.astype(np.float64),
        torch.from_numpy(array.copy()),
    ):
        got = read_image(source)
        assert got.mode == "RGB"
        assert got.size == (6, 4)
        np.testing.assert_array_equal(np.asarray(got), array)


@pytest.mark.parametrize(
    ("orientation", "size", "colours"),
    [
        (1, (6, 4), [RED, GREEN, BLUE, WHITE]),
        (3, (6, 4), [WHITE, BLUE, GREEN, RED]),
        (6, (4, 6), [BLUE, RED, WHITE, GREEN]),
        (8, (4, 6), [GREEN, WHITE, RED, BLUE]),
    ],
)
def test_the_camera_s_rotation_is_undone(tmp_path, orientation, size, colours):
    exif = Image.Exif()
    exif[0x0112] = orientation
    quarters().save(tmp_path / "x.png", exif=exif)
    with Image.open(tmp_path / "x.png") as opened:
        for source in (tmp_path / "x.png", opened):
            got = read_image(source)
            assert got.size == size
            assert corners(got) == colours


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    values = np.array([[0, 257 * 64], [257 * 128, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")
    got = np.asarray(read_image(tmp_path / "x.png"))
    np.testing.assert_allclose(got[..., 0], [[0, 64], [128, 255]], atol=1)
    assert (got == got[..., :1]).all()


def test_a_dark_sixteen_bit_picture_stays_dark(tmp_path):
    Image.fromarray(np.full((4, 4), 200, dtype=np.uint16)).save(tmp_path / "x.png")
    assert np.asarray(read_image(tmp_path / "x.png")).max() <= 1


def test_float_greys_are_scaled():
    unit = Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
    np.testing.assert_allclose(np.asarray(read_image(unit))[0, :, 0], [0, 127, 255], atol=1)


def test_cmyk_is_converted(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "x.jpg", quality=100)
    got = read_image(tmp_path / "x.jpg")
    assert got.mode == "RGB"
    red, green, blue = got.getpixel((4, 4))
    assert red > 200
    assert max(green, blue) < 60


def test_transparency_is_laid_on_white():
    clear = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    clear.putpixel((1, 0), (10, 20, 30, 255))
    assert [read_image(clear).getpixel((x, 0)) for x in (0, 1)] == [WHITE, (10, 20, 30)]
    assert read_image(np.array([[[9, 9, 9, 0]]], dtype=np.uint8)).getpixel((0, 0)) == WHITE
    palette = Image.new("P", (1, 1))
    palette.putpalette([1, 2, 3])
    palette.info["transparency"] = 0
    assert read_image(palette).getpixel((0, 0)) == WHITE


def test_greys_become_three_equal_channels():
    for array in (np.full((3, 2), 77, dtype=np.uint8), np.full((3, 2, 1), 77, dtype=np.uint8)):
        assert read_image(array).size == (2, 3)
        assert read_image(array).getpixel((0, 0)) == (77, 77, 77)


def test_one_pixel_is_an_image():
    assert read_image(Image.new("RGB", (1, 1), RED)).getpixel((0, 0)) == RED


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no image file .*none\.png"):
        read_image(tmp_path / "none.png")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "x.png").touch()
    with pytest.raises(ValueError, match=r"x\.png is empty \(0 bytes\), so it contains no image"):
        read_image(tmp_path / "x.png")


def test_a_file_that_is_no_image_is_refused(tmp_path):
    (tmp_path / "x.png").write_text("hello")
    with pytest.raises(ValueError, match=r"x\.png is not an image that Pillow can read"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_truncated_image_is_refused(tmp_path, kind):
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(buffer, kind)
    (tmp_path / "x").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(ValueError, match=r"x cannot be read as an image; it may be truncated"):
        read_image(tmp_path / "x")


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2), (3, 8, 8), (1, 4, 4, 3)])
def test_arrays_of_another_shape_are_refused(shape):
    with pytest.raises(
        ValueError,
        match=r"an image array must have shape \(row, col\), \(row, col, 3\) or \(row, col, 4\), got "
        + re.escape(str(shape)),
    ):
        read_image(np.zeros(shape, dtype=np.uint8))


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 300.0)])
def test_arrays_of_other_values_are_refused(low, high):
    with pytest.raises(
        ValueError,
        match=rf"the values of an image array must be in 0..255, or in 0..1 as floats; got float32 from {low:g} to {high:g}",
    ):
        read_image(np.array([[low, high]], dtype=np.float32))


def test_arrays_with_holes_are_refused():
    with pytest.raises(ValueError, match=r"the values of an image array must be in 0..255"):
        read_image(np.array([[0.5, np.nan]], dtype=np.float32))


@pytest.mark.parametrize("source", [3, None, b"bytes", ["x.png"]])
def test_anything_else_is_refused(source):
    with pytest.raises(
        TypeError, match="images: expected a PIL image, a path or an array .*, got " + type(source).__name__
    ):
        read_image(source)


def test_an_image_without_pixels_is_refused():
    with pytest.raises(ValueError, match="the image has no pixels: 0 × 5"):
        read_image(Image.new("RGB", (0, 5)))
    with pytest.raises(ValueError, match="the image has no pixels"):
        read_image(np.zeros((0, 4, 3), dtype=np.uint8))
