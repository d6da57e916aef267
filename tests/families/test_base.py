import pytest
import torch

from interp.families._tiny import QWEN_SPECIAL
from interp.families._tokenizer import small_tokenizer
from interp.families.base import Family, family, family_names, module_name


def test_every_file_of_the_folder_is_a_family():
    names = family_names()
    assert names == sorted(names)
    assert {"llava", "blip_2", "qwen2"} < set(names)
    assert not {"base", "_tiny", "_tokenizer"} & set(names)
    assert all(isinstance(family(name), Family) for name in names)


def test_hyphens_of_a_model_type_are_underscores_of_a_file():
    assert module_name("blip-2") == "blip_2"
    assert family("blip-2") is family("blip_2")


def test_an_unknown_model_type_names_the_file_to_add():
    with pytest.raises(
        LookupError, match=r"no family for model_type 'own-kind'; known: blip_2, .*interp/families/own_kind.py"
    ):
        family("own-kind")


def test_a_tiny_model_has_the_same_weights_in_every_call_and_leaves_the_random_state():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = (family("blip_2").tiny()[0].state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=0, atol=0)
    assert float(first["query_tokens"].std()) > 0.5  # zero in a new model of transformers


def test_the_tokenizer_returns_any_text():
    tokenizer = small_tokenizer(QWEN_SPECIAL, add_bos=True)
    ids = tokenizer("Ein Käse, <|image_pad|> 猫!").input_ids
    assert tokenizer.decode(ids[1:]) == "Ein Käse, <|image_pad|> 猫!"
    assert ids.count(tokenizer.convert_tokens_to_ids("<|image_pad|>")) == 1
