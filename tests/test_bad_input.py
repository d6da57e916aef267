"""What a user may get wrong, from the outside: nothing of it ends in a wrong number, all of it in a sentence that helps."""

import errno
import os

import numpy as np
import pytest
import torch
from PIL import Image

import interp
from interp.analysis.budget import Budget, SegmentShares
from interp.data import storage
from interp.data.prompt import Capture
from interp.data.tokens import EMITTING, Segment
from interp.interventions.attention import MaskAttention
from interp.passes import plan
from interp.passes.capture import capture
from interp.passes.measure import measure

QUESTION = "What is in the image?"


@pytest.fixture
def model(model_of):
    return model_of("llava")


@pytest.fixture
def prompt(model, picture):
    return model.prepare(picture(), QUESTION, response="A chair")


# ---------------------------------------------------------------------------------------------------------------- images


def test_no_image_where_the_model_cannot_do_without(model_of):
    with pytest.raises(
        ValueError, match=r"instructblip cannot run on text alone: give an image, prepare\(image, text\)"
    ):
        model_of("instructblip").prepare(text=QUESTION)


def test_no_image_where_the_prompt_names_one(model):
    with pytest.raises(ValueError, match=r"the text names 1 image\(s\) \(<image>\), but 0 were given"):
        model.prepare(None, "<image>\nWhat is this?")


def test_two_images_where_the_prompt_names_one(model, picture):
    with pytest.raises(ValueError, match=r"the text names 1 image\(s\) \(<image>\), but 2 were given"):
        model.prepare([picture(), picture()], "<image>\nWhat is this?")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\), so it contains no image"),
        (b"GIF, or so they say", "is not an image that Pillow can read"),
    ],
    ids=["zero bytes", "unreadable"],
)
def test_files_that_hold_no_image(model, tmp_path, content, message):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        model.prepare(path, QUESTION)
    with pytest.raises(ValueError, match=message):
        model.prepare([str(path)], QUESTION)


def test_a_file_that_is_not_there(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no image file .*gone\.png"):
        model.prepare(tmp_path / "gone.png", QUESTION)


@pytest.mark.parametrize("kind", ["llava", "qwen2_vl", "internvl", "paligemma", "gemma3", "instructblip"])
def test_one_pixel_is_seen_or_refused_in_words(model_of, kind):
    model, dot = model_of(kind), Image.new("RGB", (1, 1), (200, 30, 30))
    prompt = model.prepare(dot, QUESTION)
    assert prompt.layout.mask(Segment.IMAGE).any()
    assert interp.generate(model, prompt, max_new_tokens=1).ids


def test_a_picture_too_flat_for_the_processor_is_refused_with_its_size(model_of):
    with pytest.raises(ValueError, match=r"Qwen2VLProcessor could not process this prompt \(4000 × 1\): "):
        model_of("qwen2_vl").prepare(Image.new("RGB", (4000, 1)), QUESTION)


def same_pixels(model, one, other, **tolerance):
    one, other = (model.prepare(x, QUESTION).inputs["pixel_values"] for x in (one, other))
    torch.testing.assert_close(one, other, **tolerance)


def test_cmyk_is_what_it_looks_like(model, tmp_path):
    Image.new("CMYK", (40, 40), (0, 255, 255, 0)).save(tmp_path / "x.jpg", quality=100)
    same_pixels(model, tmp_path / "x.jpg", Image.new("RGB", (40, 40), (254, 0, 0)), rtol=0, atol=0.2)


def test_sixteen_bits_are_scaled_and_not_cut(model, tmp_path):
    grey = np.linspace(0, 65535, 1600).reshape(40, 40).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "x.png")
    eight = Image.fromarray((grey / 257).astype(np.uint8)).convert("RGB")
    same_pixels(model, tmp_path / "x.png", eight, rtol=0, atol=0.05)


def test_a_rotated_photograph_is_turned_upright(model, tmp_path, picture):
    upright = Image.fromarray(picture(30, 60))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it a quarter clockwise to look at it
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "x.png", exif=exif)
    same_pixels(model, tmp_path / "x.png", upright, rtol=0, atol=0)
    assert model.prepare(tmp_path / "x.png", QUESTION).images[0].size == (60, 30)


# ------------------------------------------------------------------------------------------------------------------- text


def test_an_empty_question(model, picture):
    with pytest.raises(ValueError, match=r"the question is empty; ask something, for example 'Describe the image.'"):
        model.prepare(picture(), "   ")


def test_more_text_than_fits(model_of):
    model = model_of("gpt2")
    with pytest.raises(
        ValueError, match=r"the prompt has \d+ tokens and the model's context holds 256; shorten the text"
    ):
        model.prepare(text="word " * 200)
    with pytest.raises(ValueError, match=r"but the context of .* holds 256; ask for at most \d+ \(max_new_tokens\)"):
        interp.generate(model, model.prepare(text="word " * 40), max_new_tokens=200)


def test_a_processor_of_another_model(model, picture, monkeypatch):
    monkeypatch.setattr(model.processor, "patch_size", 4)
    with pytest.raises(
        ValueError,
        match=r"the family counts 16 image tokens, the processor wrote 49: the processor belongs to another model",
    ):
        model.prepare(picture(), QUESTION)


# ---------------------------------------------------------------------------------------------------------------- targets


@pytest.mark.parametrize("target", [7, -8, 100])
def test_a_target_outside_the_reply(model, prompt, target):
    with pytest.raises(IndexError, match=rf"target {target} is outside the reply of 7 tokens \(0..6\)"):
        capture(model, prompt, grad={"pattern"}, target=target)


def test_tokens_outside_the_conversation(model, prompt):
    with pytest.raises(
        ValueError, match=r"MaskAttention\(.*\): positions \[4000\] are outside this conversation of \d+ tokens"
    ):
        capture(model, prompt, interventions=[MaskAttention([4000])])


# ----------------------------------------------------------------------------------------------------------------- memory


def test_more_memory_than_there_is(model, prompt, monkeypatch):
    monkeypatch.setattr(plan, "available", lambda device: 10_000)
    with pytest.raises(
        MemoryError, match=r"Ask for fewer rows \(queries=interp.EMITTING\), fewer layers .* or use measure\(...\)"
    ):
        capture(model, prompt)
    told = capture(model, prompt, estimate=True)
    assert told.during > told.available == 10_000
    monkeypatch.setattr(plan, "available", lambda device: told.during)
    assert capture(model, prompt).pattern.shape[0] == 2


# ------------------------------------------------------------------------------------------------------------------- disk


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("what", ["capture", "result"])
def test_a_disk_that_fills_while_saving(model, prompt, tmp_path, monkeypatch, what):
    path = tmp_path / "kept.safetensors"
    kept = capture(model, prompt, queries=EMITTING) if what == "capture" else measure(model, prompt, Budget())
    kept.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(storage, "save_file", full)
    with pytest.raises(
        OSError,
        match=r"could not write .*kept.safetensors: .*No space left on device; nothing was changed there. Free some space",
    ):
        kept.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="No space left"):
        kept.save(tmp_path / "new.safetensors")
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_cut_short(model, prompt, tmp_path):
    path = capture(model, prompt).save(tmp_path / "c.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"c\.safetensors is not a safetensors file, or is truncated"):
        Capture.load(path)
    path = measure(model, prompt, Budget()).save(tmp_path / "r.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"r\.safetensors is not a safetensors file, or is truncated"):
        SegmentShares.load(path)


# ---------------------------------------------------------------------------------------------------------------- numbers


def test_weights_that_are_not_numbers(picture):
    from interp.families.base import family

    module, processor = family("llava").tiny()
    module.model.language_model.layers[1].mlp.down_proj.weight.data[0, 0] = float("nan")
    broken = interp.load(module, processor=processor)
    with pytest.raises(FloatingPointError, match="NaN in mlp_out of layer 1; try dtype='float32'"):
        capture(broken, broken.prepare(picture(), QUESTION), want={"mlp_out"})
