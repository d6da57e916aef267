import pytest

from interp.families.base import family

# The processor of transformers 5.23 makes labels out of tensors in a way numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_grid_is_the_squeezed_image(check_grids):
    check_grids("paligemma", [(28, 28)], [(90, 40)], [(41, 97)], [(11, 7)])


def test_grids_of_two_images(check_grids):
    check_grids("paligemma", [(50, 31), (30, 64)])


def test_prompt_begins_with_the_image(prompts, tiny):
    record, (_, processor) = family("paligemma"), tiny("paligemma")
    inputs = prompts.prepare(record, processor, ([prompts.picture((30, 20))], "caption en"))
    assert processor.tokenizer.decode(inputs["input_ids"][0]) == "<image>" * 16 + "<bos>caption en\n"
    assert record.prompt(2, "Why?", "Be brief.") == "<image><image>Be brief. Why?"
    assert record.prompt(0, "Why?", None) == "<bos>Why?\n"


def test_model(check_model):
    check_model("paligemma")
