import pytest
import torch
from PIL import Image

from interp.data.layout import Grid
from interp.data.prompt import Prompt
from interp.data.tokens import Segment
from interp.families.base import family, family_names
from interp.models.processing import SYSTEM_PROMPTS, batched

VISION = [k for k in family_names() if family(k).image_token is not None]
ONE_IMAGE = {"instructblip", "blip_2"}
NEEDS_IMAGE = {"instructblip", "blip_2"}
SMALLER_TOGETHER = {"llava_onevision"}
"""Cuts an image into tiles only when it is the only one."""
PAD, SYSTEM, IMAGE, USER, RESPONSE = Segment
QUESTION = "What is in the image?"


def order(prompt):
    """Return the segments in the order in which they follow each other, repetitions left out."""
    names = {s.value: s for s in Segment}
    return list(dict.fromkeys(names[v] for v in prompt.layout.segment.tolist()))


def image_id(model):
    return getattr(model.config, model.family.image_token)


# ------------------------------------------------------------------------------------------------------- every family


@pytest.mark.parametrize("kind", VISION)
def test_every_image_token_is_known_by_its_patch(model_of, picture, kind):
    model = model_of(kind)
    prompt = model.prepare(picture(60, 90), QUESTION)
    ids = prompt.inputs["input_ids"][0]
    image = prompt.layout.mask(IMAGE)
    assert (ids[image] == image_id(model)).all()
    separators = [p for g in prompt.layout.grids for p in g.placeholders].count(False)
    assert int((ids == image_id(model)).sum() - image.sum()) == separators
    assert set(prompt.layout.places()) == set(prompt.layout.positions(IMAGE))
    for place in prompt.layout.places().values():
        if place.box is not None:
            x0, y0, x1, y1 = place.box
            assert x0 < x1
            assert y0 < y1
    assert QUESTION in "".join(prompt.tokens)
    assert order(prompt) in ([SYSTEM, IMAGE, USER], [IMAGE, USER])
    assert len(prompt.tokens) == len(prompt) == len(prompt.ids)


@pytest.mark.parametrize("kind", VISION)
def test_two_images_are_two_sets_of_grids(model_of, picture, kind):
    model = model_of(kind)
    images = [picture(40, 56, 0), picture(56, 40, 1)]
    if kind in ONE_IMAGE:
        with pytest.raises(ValueError, match="one image at a time, got 2"):
            model.prepare(images, QUESTION)
        return
    prompt = model.prepare(images, QUESTION)
    assert {p.image for p in prompt.layout.places().values()} == {0, 1}
    alone = [len(model.prepare(i, QUESTION).layout.positions(IMAGE)) for i in images]
    together = len(prompt.layout.positions(IMAGE))
    assert together < sum(alone) if kind in SMALLER_TOGETHER else together == sum(alone)
    assert len(prompt.images) == 2
    with torch.no_grad():
        assert model.module(**model.inputs([prompt])).logits.isfinite().all()


@pytest.mark.parametrize("kind", VISION)
def test_text_alone_needs_no_image(model_of, kind):
    model = model_of(kind)
    if kind in NEEDS_IMAGE:
        with pytest.raises(ValueError, match=r"cannot run on text alone: give an image, prepare\(image, text\)"):
            model.prepare(text=QUESTION)
        return
    prompt = model.prepare(text=QUESTION)
    assert order(prompt) == [USER]
    assert prompt.layout.grids == ()
    with torch.no_grad():
        assert model.module(**model.inputs([prompt])).logits.isfinite().all()


@pytest.mark.parametrize("kind", VISION)
def test_taking_the_image_out_leaves_the_text(model_of, picture, kind):
    model = model_of(kind)
    prompt = model.prepare(picture(), QUESTION, response="A chair")
    if kind in NEEDS_IMAGE:
        with pytest.raises(ValueError, match="cannot run on text alone"):
            prompt.without(IMAGE)
        return
    bare = prompt.without(IMAGE)
    assert not bare.layout.mask(IMAGE).any()
    assert bare.images == ()
    assert bare.text == QUESTION
    assert bare.response_ids == prompt.response_ids
    assert "pixel_values" not in bare.inputs


@pytest.mark.parametrize("kind", VISION)
def test_another_image_can_be_put_in(model_of, picture, kind):
    model = model_of(kind)
    first, second = picture(40, 56, 0), picture(56, 40, 1)
    changed = model.prepare(first, QUESTION, response="A chair").with_image(second)
    direct = model.prepare(second, QUESTION, response="A chair")
    assert set(changed.inputs) == set(direct.inputs)
    for name, value in direct.inputs.items():
        torch.testing.assert_close(changed.inputs[name], value, rtol=0, atol=0)
    assert changed.layout.grids == direct.layout.grids


@pytest.mark.parametrize("kind", family_names())
def test_a_reply_can_be_given_as_text_as_ids_or_as_a_reply(model_of, picture, kind):
    import interp

    model = model_of(kind)
    prompt = model.prepare(picture() if kind in VISION else None, QUESTION)
    text = prompt.with_response("A chair")
    ids = tuple(model.tokenizer("A chair", add_special_tokens=False)["input_ids"])
    for same in (
        text,
        prompt.with_response(ids),
        prompt.with_response(list(ids)),
        model.prepare(prompt.images or None, QUESTION, response=ids),
    ):
        assert same.response_ids == ids
        assert same.ids == prompt.ids + ids
        assert same.layout.positions(RESPONSE) == tuple(range(len(prompt), len(prompt) + len(ids)))
        for name in ("attention_mask", "token_type_ids", "mm_token_type_ids"):
            if name in prompt.inputs:
                assert same.inputs[name].shape == same.inputs["input_ids"].shape
    reply = interp.generate(model, prompt, max_new_tokens=3)
    answered = prompt.with_response(reply)
    assert answered.response_ids == reply.ids
    assert reply.layout.segment.tolist() == answered.layout.segment.tolist()
    assert answered.with_response("No").response_ids == tuple(
        model.tokenizer("No", add_special_tokens=False)["input_ids"]
    )


@pytest.mark.parametrize("kind", ["llava", "qwen2_vl", "internvl", "qwen2", "idefics3", "instructblip", "gpt2"])
def test_a_system_prompt_comes_first(model_of, picture, kind):
    model = model_of(kind)
    prompt = model.prepare(picture() if kind in VISION else None, QUESTION, system_prompt="Be brief.")
    text = "".join(prompt.tokens)
    assert text.index("Be brief.") < text.index(QUESTION)
    plain = model.prepare(picture() if kind in VISION else None, QUESTION)
    assert len(prompt) != len(plain)


def test_system_prompts_have_names(model_of, picture):
    prompt = model_of("llava").prepare(picture(), QUESTION, system_prompt="vicuna_v1")
    text = "".join(prompt.tokens)
    assert SYSTEM_PROMPTS["vicuna_v1"] in text
    assert len(prompt.layout.positions(SYSTEM)) > len(SYSTEM_PROMPTS["vicuna_v1"])


@pytest.mark.parametrize("kind", VISION)
def test_tensors_processed_elsewhere_make_the_same_prompt(model_of, picture, kind):
    model = model_of(kind)
    image = picture()
    prompt = model.prepare(image, QUESTION)
    same = model.prepare(image, QUESTION, inputs=dict(prompt.inputs))
    assert same.layout.segment.tolist() == prompt.layout.segment.tolist()
    assert same.layout.grids == prompt.layout.grids
    assert same.tokens == prompt.tokens
    assert same.with_response("A").response_ids


def test_tensors_without_their_image_make_a_row_of_tokens_without_a_place(model_of, picture):
    model = model_of("llava")
    prompt = model.prepare(picture(), QUESTION)
    bare = model.prepare(inputs=dict(prompt.inputs))
    assert bare.layout.grids == (Grid(0, 1, 16, None),)
    assert bare.layout.segment.tolist() == prompt.layout.segment.tolist()
    with pytest.raises(
        ValueError, match=r"this prompt was made from processed tensors; prepare\(image, text\) makes one whose image"
    ):
        bare.with_image(picture())
    assert not bare.without(IMAGE).layout.mask(IMAGE).any()


def test_padding_of_tensors_processed_elsewhere_is_taken_off(model_of):
    model = model_of("llama")
    prompt = model.prepare(text=QUESTION)
    ids = prompt.inputs["input_ids"]
    padded = {
        "input_ids": torch.cat([ids.new_zeros(1, 3), ids], 1),
        "attention_mask": torch.cat([ids.new_zeros(1, 3), torch.ones_like(ids)], 1),
    }
    same = model.prepare(inputs=padded)
    assert same.ids == prompt.ids
    assert same.inputs["attention_mask"].all()
    assert model.prepare(inputs={"input_ids": ids}).inputs["attention_mask"].all()


# ------------------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("kind", family_names())
def test_a_batch_is_padded_on_the_left(model_of, picture, kind):
    model = model_of(kind)
    image = picture() if kind in VISION else None
    short, long = model.prepare(image, "Why?"), model.prepare(image, QUESTION)
    batch = model.inputs([short, long])
    gap = len(long) - len(short)
    assert gap > 0
    assert batch["input_ids"].shape == (2, len(long))
    assert batch["attention_mask"].sum(1).tolist() == [len(short), len(long)]
    assert not batch["attention_mask"][0, :gap].any()
    assert tuple(batch["input_ids"][0, gap:].tolist()) == short.ids
    for name in model.family.right_padded:
        assert batch[name][0, -1] == 0


def test_prompts_with_and_without_images_cannot_share_a_batch(model_of, picture):
    model = model_of("llava")
    with pytest.raises(ValueError, match="prompts with and without images cannot share a batch; run them in two calls"):
        model.inputs([model.prepare(picture(), QUESTION), model.prepare(text=QUESTION)])


def test_a_batch_of_one_is_not_padded(model_of, picture):
    prompt = model_of("llava").prepare(picture(), QUESTION)
    assert batched([prompt], (), 0) == dict(prompt.inputs)


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_question_is_refused(model_of, picture, text):
    with pytest.raises(ValueError, match=r"the question is empty; ask something, for example 'Describe the image.'"):
        model_of("llava").prepare(picture(), text)


@pytest.mark.parametrize(
    ("text", "images", "named"), [("<image> What?", 0, 1), ("<image> What?", 2, 1), ("<image><image> What?", 1, 2)]
)
def test_placeholders_and_images_must_agree(model_of, picture, text, images, named):
    message = rf"the text names {named} image\(s\) \(<image>\), but {images} were given; give as many as it names, or leave <image> out"
    with pytest.raises(ValueError, match=message):
        model_of("llava").prepare([picture()] * images, text)


def test_placeholders_that_agree_are_left_to_the_template(model_of, picture):
    model = model_of("llava")
    assert model.prepare(picture(), "<image>\nWhy?").ids == model.prepare(picture(), "Why?").ids


def test_a_language_model_takes_no_image(model_of, picture):
    with pytest.raises(ValueError, match="llama is a language model: it takes no image, got 1"):
        model_of("llama").prepare(picture(), QUESTION)


def test_an_image_alone_is_no_question(model_of):
    with pytest.raises(
        ValueError,
        match=r"prepare\(image, text\) got only 'Why\?'; for text without an image write prepare\(text='Why\?'\)",
    ):
        model_of("llava").prepare("Why?")


def test_a_prompt_longer_than_the_context_is_refused(model_of):
    model = model_of("gpt2")
    with pytest.raises(
        ValueError, match=r"the prompt has 3\d\d tokens and the model's context holds 256; shorten the text"
    ):
        model.prepare(text="x" * 300)
    prompt = model.prepare(text="x" * 250)
    with pytest.raises(ValueError, match=r"the prompt has 2\d\d tokens and the model's context holds 256"):
        prompt.with_response("y" * 20)


def test_an_empty_reply_is_refused(model_of, picture):
    prompt = model_of("llava").prepare(picture(), QUESTION)
    for nothing in ("", []):
        with pytest.raises(ValueError, match="the response is empty; leave it out, or give at least one token"):
            prompt.with_response(nothing)


def test_several_conversations_are_no_prompt(model_of):
    with pytest.raises(
        ValueError, match=r"a prompt holds one conversation: input_ids of shape \(1, token\), got \(2, 5\)"
    ):
        model_of("llama").prepare(inputs={"input_ids": torch.ones(2, 5, dtype=torch.long)})


def test_a_template_that_drops_system_messages_is_noticed(model_of, monkeypatch):
    model = model_of("qwen2")
    template = "{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}{% endfor %}"
    monkeypatch.setattr(model.tokenizer, "chat_template", template)
    with pytest.raises(
        ValueError, match="the model's chat template leaves out system messages; put the instruction into the question"
    ):
        model.prepare(text=QUESTION, system_prompt="Be brief.")


def test_a_processor_of_another_patch_size_is_noticed(model_of, picture, monkeypatch):
    model = model_of("llava")
    monkeypatch.setattr(model.processor, "patch_size", 14)
    with pytest.raises(
        ValueError,
        match="the family counts 16 image tokens, the processor wrote 4: the processor belongs to another model",
    ):
        model.prepare(picture(), QUESTION)


def test_a_template_that_drops_the_image_is_noticed(model_of, picture, monkeypatch):
    model = model_of("llava")
    monkeypatch.setattr(model.processor, "chat_template", "{{ messages[0]['content'][-1]['text'] }}")
    with pytest.raises(
        ValueError,
        match=r"could not process this prompt|1 image.s. were given but the processed text holds no image token",
    ):
        model.prepare(picture(), QUESTION)


def test_what_the_processor_refuses_is_said_with_the_size_of_the_image(model_of, monkeypatch):
    model = model_of("llava")

    def fail(*args, **kwargs):
        raise RuntimeError("too odd")

    monkeypatch.setattr(type(model.processor), "__call__", fail)
    with pytest.raises(ValueError, match=r"LlavaProcessor could not process this prompt \(30 × 20\): too odd"):
        model.prepare(Image.new("RGB", (30, 20)), QUESTION)


def test_only_the_image_can_be_taken_out(model_of, picture):
    prompt = model_of("llava").prepare(picture(), QUESTION)
    with pytest.raises(
        ValueError, match="only the IMAGE segment can be removed from a prompt, not USER; prepare another text instead"
    ):
        prompt.without(USER)
    assert isinstance(prompt, Prompt)
