"""What every family is checked for: its grids say where the pixels went, and its tiny model runs the way the record says."""

import random
from dataclasses import replace
from functools import cache
from math import ceil, floor
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from interp.families.base import ImageView, family

QUESTION = "What is in the image?"


class _StopError(Exception):
    """The decoder has been reached; what follows is not needed."""


@cache
def _tiny(model_type):
    return family(model_type).tiny()


def uses_interface(module):
    """Say whether a module's attention goes through transformers' table of attention functions."""
    return "ALL_ATTENTION_FUNCTIONS" in type(module).forward.__code__.co_names


def conversation(images, question, system=None):
    """Return one user turn in the form that chat templates take."""
    content = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": question}]
    before = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    return [*before, {"role": "user", "content": content}]


def prepare(record, processor, *prompts, system=None):
    """Return the model's inputs for one or several (images, question) prompts."""
    if record.prompt is None:
        chats = [conversation(*prompt, system) for prompt in prompts]
        options = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "add_generation_prompt": True}
        more = {"padding": True} if len(chats) > 1 else {}
        return processor.apply_chat_template(chats if more else chats[0], processor_kwargs=more, **options)
    texts = [record.prompt(len(images), question, system) for images, question in prompts]
    images = [list(images) for images, _ in prompts]
    if not any(images):
        return processor.tokenizer(texts, return_tensors="pt", padding=True)
    return processor(images=images, text=texts, return_tensors="pt", padding=True)


def picture(size, light=None):
    """Return a black image with one white rectangle."""
    image = Image.new("RGB", size)
    if light is not None:
        image.paste((255, 255, 255), light)
    return image


def embeddings(record, model, inputs):
    """Return what enters the decoder when every patch of the image sees itself alone."""
    got, handles = {}, []

    def keep(module, args, kwargs):
        got["embeddings"] = kwargs["inputs_embeds"]
        raise _StopError

    def silence(module, args, output):
        return (torch.zeros_like(output[0]), *output[1:]) if isinstance(output, tuple) else torch.zeros_like(output)

    handles.append(model.get_submodule(record.decoder).register_forward_pre_hook(keep, with_kwargs=True))
    attention = filter(uses_interface, model.get_submodule(record.vision).modules())
    handles += [module.register_forward_hook(silence) for module in attention]
    try:
        with torch.no_grad(), pytest.raises(_StopError):
            model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return got["embeddings"][0]


def overlap(a, b):
    """Return the area that two boxes share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def area(box):
    """Return the area of a box."""
    return (box[2] - box[0]) * (box[3] - box[1])


def inside(box, size):
    """Return whole pixels well inside a box, or the one pixel at its centre; None where hardly any of it is image."""
    if overlap(box, (0, 0, *size)) < 0.5 * area(box):
        return None
    light = []
    for low, high, edge in ((box[0], box[2], size[0]), (box[1], box[3], size[1])):
        start, stop = max(low, 0), min(high, edge)
        margin = 0.15 * (stop - start)
        first, last = ceil(start + margin), floor(stop - margin)
        if first >= last:
            first = min(floor((start + stop) / 2), edge - 1)
            last = first + 1
        light.append((first, last))
    (x0, x1), (y0, y1) = light
    return (x0, y0, x1, y1)


def targets(grids, size, generator, number=8):
    """Return some patches that lie on the image, each as its grid and the pixels well inside it; off the diagonal first."""
    lights = [(g, r, c, inside(g.patch_box(r, c), size)) for g in grids for r in range(g.rows) for c in range(g.cols)]
    reached = [(g, r, c, light) for g, r, c, light in lights if light is not None]
    generator.shuffle(reached)
    return sorted(reached, key=lambda found: found[1] == found[2])[:number]


def _check_prompt(record, model, processor, sizes):
    def run(images):
        return prepare(record, processor, (images, QUESTION))

    dark = [picture(size) for size in sizes]
    inputs = run(dark)
    views = [ImageView(processor, model.config, inputs, i, size) for i, size in enumerate(sizes)]
    grids = [grid for view in views for grid in record.grids(view)]
    flags = torch.tensor([flag for grid in grids for flag in grid.placeholders])
    token = getattr(model.config, record.image_token)
    where = (inputs["input_ids"][0] == token).nonzero().flatten()
    assert len(flags) == len(where), f"{sizes}: {len(where)} placeholders, but {grids} make {len(flags)}"
    assert [grid.image for grid in grids] == sorted(grid.image for grid in grids)
    starts = [sum(len(g.placeholders) for g in grids[:i]) for i in range(len(grids))]
    before = embeddings(record, model, inputs)

    generator, seen = random.Random(0), 0  # noqa: S311
    for image, size in enumerate(sizes):
        for *_, light in targets([g for g in grids if g.image == image and g.box], size, generator):
            images = [*dark[:image], picture(size, light), *dark[image + 1 :]]
            moved = (embeddings(record, model, run(images)) - before).norm(dim=-1)[where]
            assert (moved[~flags] == 0).all(), f"{sizes}: the image changes a placeholder that is no patch"
            for start, grid in zip(starts, grids, strict=True):
                here = moved[start : start + len(grid.placeholders)][flags[start : start + len(grid.placeholders)]]
                if grid.image != image:
                    assert (here == 0).all(), f"{sizes}: image {image} changes a token of image {grid.image}"
                elif overlap(grid.box, light) == area(light):
                    place = divmod(int(here.argmax()), grid.cols)
                    found = grid.patch_box(*place)
                    assert overlap(found, light), (
                        f"{sizes}: light at {light}, seen at {found} (row, col {place} of {grid})"
                    )
                    seen += 1
    assert seen >= 2 * len(sizes), f"{sizes}: only {seen} patches could be checked"


@pytest.fixture(scope="session")
def tiny():
    """Return the function that makes a family's tiny model and processor, once."""
    return _tiny


@pytest.fixture(scope="session")
def prompts():
    """Return what makes images and inputs: `picture(size, light=None)` and `prepare(record, processor, *prompts)`."""
    return SimpleNamespace(picture=picture, prepare=prepare)


@pytest.fixture(scope="session")
def check_grids():
    """Return the check that a family's grids cover the placeholders and say which pixels each token saw."""

    def check(model_type, *prompts, processor=None, grids=None):
        """Check prompts, each given by the sizes (width, height) of its images."""
        record = family(model_type)
        record = record if grids is None else replace(record, grids=grids)
        model, own = _tiny(model_type)
        for sizes in prompts:
            _check_prompt(record, model, processor or own, sizes)

    return check


def _check_stream(record, model, inputs):
    """Check that the record's paths add up: what leaves a layer is what entered it and what its two halves add."""
    layers = model.get_submodule(record.decoder).get_submodule(record.layers)
    layer, got, handles = layers[0], {}, []

    def keep(name):
        def hook(module, args, kwargs, output):
            got[name + "_in"] = args[0] if args else kwargs.get("hidden_states")
            got[name] = output[0] if isinstance(output, tuple) else output

        return hook

    paths = {"layer": "", "attn_out": record.attn_out or record.attention, "mlp_out": record.mlp_out}
    paths |= {"resid_mid": record.resid_mid} if record.resid_mid else {}
    for name, path in paths.items():
        handles.append(layer.get_submodule(path).register_forward_hook(keep(name), with_kwargs=True))
    with torch.no_grad():
        model(**inputs)
    for handle in handles:
        handle.remove()
    middle = got["layer_in"] + got["attn_out"]
    if record.resid_mid:
        torch.testing.assert_close(got["resid_mid_in"].reshape(middle.shape), middle)  # OPT lays its tokens end to end
    torch.testing.assert_close(got["layer"], middle + got["mlp_out"].reshape(middle.shape))


def _check_attention(record, model):
    layers = model.get_submodule(record.decoder).get_submodule(record.layers)
    assert all(uses_interface(layer.get_submodule(record.attention)) for layer in layers)
    strays = [
        name for name, m in model.named_modules() if type(m).__name__.endswith("Attention") and not uses_interface(m)
    ]
    assert not strays, f"attention that no tap reaches: {strays}"
    assert any(uses_interface(m) for m in model.get_submodule(record.vision).modules())


def _check_batch(record, model, processor, image):
    prompts = (([image], "Why?"), ([image], "What is to be seen in this image?"))
    alone = [prepare(record, processor, prompt) for prompt in prompts]
    both = prepare(record, processor, *prompts)
    assert both["input_ids"][0, 0] == processor.tokenizer.pad_token_id
    with torch.no_grad():
        batched = model(**both).logits[:, -1]
        for row, inputs in zip(batched, alone, strict=True):
            torch.testing.assert_close(row, model(**inputs).logits[0, -1], rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="session")
def check_model():
    """Return the check that a family's tiny model runs, and that the record's paths mean what they should."""

    def check(model_type, size=(40, 30), text_only=True, batched=True, system=True):
        record = family(model_type)
        state = torch.random.get_rng_state()
        model, processor = record.tiny()
        torch.testing.assert_close(torch.random.get_rng_state(), state, rtol=0, atol=0)
        assert not model.training
        assert model.config.model_type == model_type
        same = _tiny(model_type)[0].state_dict()
        for name, weight in model.state_dict().items():
            torch.testing.assert_close(weight, same[name], rtol=0, atol=0)

        dark, light = picture(size), picture(size, (0, 0, size[0] // 2, size[1] // 2))
        inputs = prepare(record, processor, ([light], QUESTION))
        _check_attention(record, model)
        _check_stream(record, model, inputs)
        with torch.no_grad():
            logits = model(**inputs).logits[0, -1]
            other = model(**prepare(record, processor, ([dark], QUESTION))).logits[0, -1]
        assert logits.isfinite().all()
        assert (logits - other).abs().max() > 1e-3, "the answer does not depend on the image"
        length = inputs["input_ids"].shape[1]
        assert model.generate(**inputs, max_new_tokens=3, min_new_tokens=3, do_sample=False).shape == (1, length + 3)
        if text_only:
            inputs = prepare(record, processor, ([], "Why?"))
            assert not (inputs["input_ids"] == getattr(model.config, record.image_token)).any()
            with torch.no_grad():
                assert model(**inputs).logits.isfinite().all()
            model.generate(**inputs, max_new_tokens=3, do_sample=False)
        if batched:
            _check_batch(record, model, processor, light)
        if system:
            inputs = prepare(record, processor, ([light], QUESTION), system="Be brief.")
            before, _, after = processor.tokenizer.decode(inputs["input_ids"][0]).partition(QUESTION)
            assert "Be brief." in before
            assert QUESTION not in after

    return check


def encode(tokenizer, *questions, system=None):
    """Return the inputs for one or several questions to a language model, through its chat template where it has one."""
    options = {"return_tensors": "pt", "padding": True}
    if tokenizer.chat_template is None:
        return tokenizer(list(questions), **options)
    before = [{"role": "system", "content": system}] if system else []
    chats = [[*before, {"role": "user", "content": question}] for question in questions]
    texts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
    return tokenizer(texts, add_special_tokens=False, **options)


@pytest.fixture(scope="session")
def check_language_model():
    """Return the check that a language model's tiny model runs, and that the record's paths mean what they should."""

    def check(model_type):
        record = family(model_type)
        state = torch.random.get_rng_state()
        model, tokenizer = record.tiny()
        torch.testing.assert_close(torch.random.get_rng_state(), state, rtol=0, atol=0)
        assert not model.training
        assert model.config.model_type == model_type
        assert record.image_token is record.vision is record.grids is None
        layers = model.get_submodule(record.decoder).get_submodule(record.layers)
        assert all(uses_interface(layer.get_submodule(record.attention)) for layer in layers)

        short, long = "Why?", "What is the capital of France, and since when?"
        inputs = encode(tokenizer, long)
        _check_stream(record, model, inputs)
        both = encode(tokenizer, short, long)
        assert both["attention_mask"][0, 0] == 0
        places = (both["attention_mask"].cumsum(-1) - 1).clamp(min=0)  # GPT-2 would count the padding
        with torch.no_grad():
            batched = model(**both, position_ids=places).logits[:, -1]
            for row, question in zip(batched, (short, long), strict=True):
                one = model(**encode(tokenizer, question)).logits[0, -1]
                torch.testing.assert_close(row, one, rtol=1e-3, atol=1e-4)
        sequences = model.generate(**inputs, max_new_tokens=3, min_new_tokens=3, do_sample=False)
        assert sequences.shape == (1, inputs["input_ids"].shape[1] + 3)
        return model, tokenizer

    return check


def _padded_pair(record, processor, image, questions):
    """Return two prompts as one batch, padded on the left, and on the right where the record says so."""
    alone = [prepare(record, processor, ([image], question)) for question in questions]
    batch = {}
    for name in alone[0]:
        parts = [inputs[name] for inputs in alone]
        longest = max(part.shape[1] for part in parts)
        for i, part in enumerate(parts):
            gap = longest - part.shape[1]
            parts[i] = (
                torch.nn.functional.pad(part, (0, gap) if name in record.right_padded else (gap, 0)) if gap else part
            )
        batch[name] = torch.cat(parts)
    return alone, batch


def _check_queries(record, model, processor, size, light):
    token = getattr(model.config, record.image_token)
    seen = []
    for image in (picture(size), picture(size, light)):
        inputs = prepare(record, processor, ([image], QUESTION))
        (grid,) = record.grids(ImageView(processor, model.config, inputs, 0, size))
        assert grid.box is grid.patch_box(0, grid.cols - 1) is None
        where = inputs["input_ids"][0] == token
        assert tuple(where[: grid.cols].tolist()) == grid.placeholders
        assert not where[grid.cols :].any()
        seen.append(embeddings(record, model, inputs))
    moved = (seen[0] - seen[1]).norm(dim=-1)
    assert (moved[where] > 1e-4).all()
    assert (moved[~where] == 0).all()
    assert torch.pdist(seen[1][where]).min() > 1e-2, "the queries are all alike"


@pytest.fixture(scope="session")
def check_qformer():
    """Return the check of a model that looks at its image through a Q-Former: tokens without a place, one image a prompt."""

    def check(model_type):
        record = family(model_type)
        state = torch.random.get_rng_state()
        model, processor = record.tiny()
        torch.testing.assert_close(torch.random.get_rng_state(), state, rtol=0, atol=0)
        assert not model.training
        assert model.config.model_type.replace("-", "_") == model_type
        for size in ((28, 28), (90, 31), (20, 77), (7, 5)):
            _check_queries(record, model, processor, size, (0, 0, size[0] // 2, size[1] // 2))

        layers = model.get_submodule(record.decoder).get_submodule(record.layers)
        assert all(uses_interface(layer.get_submodule(record.attention)) for layer in layers)
        for path in (record.vision, record.qformer):
            assert sum(uses_interface(module) for module in model.get_submodule(path).modules()) >= 2
        alone, both = _padded_pair(record, processor, picture((50, 30), (0, 0, 20, 20)), ("Why?", QUESTION))
        _check_stream(record, model, both)
        with torch.no_grad():
            for row, inputs in zip(model(**both).logits[:, -1], alone, strict=True):
                torch.testing.assert_close(row, model(**inputs).logits[0, -1], rtol=1e-3, atol=1e-4)
        length = alone[0]["input_ids"].shape[1]
        sequences = model.generate(**alone[0], max_new_tokens=3, min_new_tokens=3, do_sample=False)
        assert sequences.shape == (1, length + 3)
        with pytest.raises(ValueError, match="one image at a time, got 2"):
            record.prompt(2, "Why?", None)

    return check
