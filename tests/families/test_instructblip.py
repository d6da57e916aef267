import torch
from PIL import Image

from interp.families.base import family


def test_model(check_qformer):
    check_qformer("instructblip")


def test_prompt():
    prompt = family("instructblip").prompt
    assert prompt(1, "Why?", None) == "Why?"
    assert prompt(1, "Why?", "Be brief.") == "Be brief. Why?"


def test_the_queries_read_the_question(tiny):
    model, processor = tiny("instructblip")
    image = Image.new("RGB", (30, 30))
    one, other = (processor(images=[image], text=[q], return_tensors="pt") for q in ("Why?", "How?"))
    names = ("pixel_values", "qformer_input_ids", "qformer_attention_mask")
    with torch.no_grad():
        a, b = (model.get_image_features(**{n: x[n] for n in names}).pooler_output for x in (one, other))
    assert (a - b).abs().max() > 1e-3
