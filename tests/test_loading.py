import logging
import shutil

import pytest
import torch
import transformers
from torch import nn
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaForCausalLM

import interp
from interp.families._tokenizer import small_tokenizer
from interp.families.base import family, family_names
from interp.loading import discovered, load

SHAPE = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "initializer_range": 0.15, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 256,
}  # fmt: skip


def stranger(name, **more):
    """Return a small random language model of a kind that has no family file, and a tokenizer."""
    tokenizer = small_tokenizer()
    config = getattr(transformers, f"{name}Config")(vocab_size=len(tokenizer), **SHAPE, **more)
    return getattr(transformers, f"{name}ForCausalLM")(config), tokenizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a folder with a tiny LLaVA and its processor."""
    folder = tmp_path_factory.mktemp("llava")
    module, processor = family("llava").tiny()
    module.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


# ----------------------------------------------------------------------------------------------------------- what is loaded


def test_the_embedded_model_loads(picture):
    model = load("scenes")
    assert model.name == "scenes"
    assert model.dtype == torch.float32
    assert model.notes == ()
    reply = interp.generate(model, model.prepare(picture(112, 112), "Is there a chair?"), max_new_tokens=2)
    assert reply.ids


def test_a_folder_loads_and_answers_like_the_model_it_was_saved_from(saved, model_of, picture):
    model, original = load(saved), model_of("llava")
    assert model.name == str(saved)
    prompts = [m.prepare(picture(), "Why?") for m in (model, original)]
    one, other = (interp.generate(m, p, max_new_tokens=5) for m, p in zip((model, original), prompts, strict=True))
    assert one.ids == other.ids
    torch.testing.assert_close(torch.tensor(one.logprobs), torch.tensor(other.logprobs))


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16, "float32", "auto", None])
def test_the_type_of_the_weights_can_be_chosen(saved, dtype):
    assert load(str(saved), dtype=dtype).dtype == (torch.bfloat16 if "bfloat16" in str(dtype) else torch.float32)


def test_device_map_goes_through_accelerate(saved):
    assert load(saved, device_map="cpu").device.type == "cpu"


def test_a_processor_can_be_given(saved, model_of):
    processor = model_of("llava").processor
    assert load(saved, processor=processor).processor is processor


@pytest.mark.parametrize("kind", family_names())
def test_a_model_object_needs_no_check_when_its_kind_is_known(kind):
    module, processor = family(kind).tiny()
    model = load(module, processor=processor)
    assert model.notes == ()
    assert model.name == type(module).__name__


# --------------------------------------------------------------------------------------------------------- unknown kinds


@pytest.mark.parametrize("name", ["Olmo", "Olmo2", "StableLm", "Phi3", "Gemma2", "Cohere", "Glm4", "GPTBigCode"])
def test_a_model_of_an_unknown_kind_is_discovered_checked_and_noted(name, caplog):
    module, tokenizer = stranger(name)
    with caplog.at_level(logging.WARNING, logger="interp"):
        model = load(module, processor=tokenizer)
    kind = module.config.model_type
    assert kind not in family_names()
    assert len(model.notes) == 1
    assert model.notes[0].startswith(f"{kind} has no family file; its parts were discovered")
    assert caplog.messages == list(model.notes)
    prompt = model.prepare(text="What is this?")
    assert interp.generate(model, prompt, max_new_tokens=2).ids
    assert set(model.sites) >= {"pattern", "resid_post"}


@pytest.mark.parametrize("name", ["Falcon", "Bloom", "GPTJ"])
def test_attention_beyond_reach_is_refused_with_the_reason(name):
    module, tokenizer = stranger(name)
    kind = module.config.model_type
    message = (
        rf"no family for model_type '{kind}', and its attention does not go through transformers' AttentionInterface; "
        rf"add interp/families/{kind}.py if it does. Known: blip_2, "
    )
    with pytest.raises(TypeError, match=message):
        load(module, processor=tokenizer)


def test_a_stream_that_is_scaled_on_the_way_is_refused():
    module, tokenizer = stranger("Granite", residual_multiplier=0.3)
    with pytest.raises(
        ValueError,
        match=r"the taps do not fit GraniteForCausalLM \(granite\): stream adds up: .* Add interp/families/granite.py",
    ):
        load(module, processor=tokenizer)


def test_layers_without_a_known_mlp_are_refused():
    tokenizer = small_tokenizer()
    shape = {
        "hidden_size": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "word_embed_proj_dim": 32,
    }
    module = transformers.OPTForCausalLM(transformers.OPTConfig(vocab_size=len(tokenizer), **shape))
    with pytest.raises(
        TypeError,
        match=r"no family for model_type 'opt': its layers have no MLP under a known name, only self_attn, .*; add interp/families/opt.py",
    ):
        load(module, processor=tokenizer)


class OwnAttention(LlamaAttention):
    """Attention that computes its softmax by itself, as a model's own code may."""

    def forward(self, hidden_states, position_embeddings, attention_mask=None, past_key_values=None, **kwargs):
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        q, k, v = (p(hidden_states).view(shape).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
        pattern = (q @ k.transpose(2, 3) * self.scaling).softmax(-1)
        return self.o_proj((pattern @ v).transpose(1, 2).flatten(2)), pattern


def test_a_known_kind_whose_attention_bypasses_the_interface_is_refused():
    module, tokenizer = family("llama").tiny()
    for index, layer in enumerate(module.model.layers):
        layer.self_attn = OwnAttention(module.config, index)
    message = (
        "OwnAttention in LlamaForCausalLM computes attention without transformers' AttentionInterface, "
        "so scores and pattern cannot be reached"
    )
    with pytest.raises(TypeError, match=message):
        load(module, processor=tokenizer)


def test_an_unknown_kind_whose_attention_bypasses_the_interface_is_refused(monkeypatch):
    class MineConfig(transformers.LlamaConfig):
        model_type = "mine"

    class MineForCausalLM(LlamaForCausalLM):
        config_class = MineConfig

    tokenizer = small_tokenizer()
    module = MineForCausalLM(MineConfig(vocab_size=len(tokenizer), **SHAPE))
    assert load(module, processor=tokenizer).notes
    module = MineForCausalLM(MineConfig(vocab_size=len(tokenizer), **SHAPE))
    for index, layer in enumerate(module.model.layers):
        layer.self_attn = OwnAttention(module.config, index)
    with pytest.raises(TypeError, match="no family for model_type 'mine', and its attention does not go through"):
        load(module, processor=tokenizer)


def test_one_layer_that_bypasses_the_interface_is_enough_to_refuse():
    module, tokenizer = family("llama").tiny()
    module.model.layers[1].self_attn = OwnAttention(module.config, 1)
    with pytest.raises(TypeError, match="OwnAttention in LlamaForCausalLM computes attention without"):
        load(module, processor=tokenizer)


def test_what_is_discovered_is_what_the_family_files_say():
    for kind in ("llama", "qwen2", "qwen3", "mistral"):
        found, told = discovered(family(kind).tiny()[0]), family(kind)
        for name in ("decoder", "layers", "attention", "attn_out", "mlp_out", "resid_mid"):
            assert getattr(found, name) == getattr(told, name), (kind, name)


def test_an_encoder_decoder_is_refused():
    config = transformers.T5Config(vocab_size=64, d_model=16, d_ff=32, num_layers=1, num_heads=2, d_kv=8)
    with pytest.raises(
        TypeError,
        match="T5ForConditionalGeneration is an encoder-decoder model; only decoder-only language models are supported",
    ):
        load(transformers.T5ForConditionalGeneration(config), processor=small_tokenizer())


# -------------------------------------------------------------------------------------------------------------- refusals


def test_a_model_object_needs_its_processor():
    with pytest.raises(
        TypeError,
        match=r"a transformers model needs its processor: load\(model, processor=AutoProcessor.from_pretrained",
    ):
        load(family("llama").tiny()[0])


def test_a_name_that_cannot_be_fetched_says_what_to_do_offline():
    message = (
        r"'nobody/no-such-model' could not be loaded: .* Without a network, give a folder that contains the model, download it to the "
        r"hub's cache beforehand \(hf download nobody/no-such-model\), or use the embedded model: load\('scenes'\)"
    )
    with pytest.raises(FileNotFoundError, match=message):
        load("nobody/no-such-model")


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the folder .* contains no model: it has no config.json"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/place", "~/nothing-here-either"])
def test_a_missing_path_is_refused(name):
    message = rf"'{name}' is neither an embedded model nor a folder with a model; give one of \['scenes'\], a folder, or a name on"
    with pytest.raises(FileNotFoundError, match=message):
        load(name)


@pytest.mark.parametrize(
    ("name", "near"),
    [("scene", r" \(did you mean scenes\?\)"), ("llava", ""), ("gpt2", "")],
    ids=["near", "far", "owner"],
)
def test_a_name_without_an_owner_is_refused_without_a_look_at_the_hub(monkeypatch, name, near):
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", lambda *_, **__: pytest.fail("the hub was asked"))
    with pytest.raises(
        FileNotFoundError, match=rf"^'{name}' is neither an embedded model{near} nor a folder with a model"
    ):
        load(name)


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "model.bin").write_text("x")
    with pytest.raises(FileNotFoundError, match=r"model.bin' is neither an embedded model nor a folder with a model"):
        load(tmp_path / "model.bin")


def test_a_folder_of_an_unheard_of_kind_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "perceptron-9000"}')
    with pytest.raises(ValueError, match=r"perceptron-9000.* Kinds with a family file: blip_2, "):
        load(tmp_path)


def test_a_folder_with_weights_cut_short_is_refused(tmp_path, saved):
    shutil.copytree(saved, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    whole = weights.read_bytes()
    for length in (4, 5000, len(whole) - 10):
        weights.write_bytes(whole[:length])
        with pytest.raises(
            ValueError,
            match=r"the weights of '.*cut' cannot be read, perhaps because a file is incomplete: .* Copy or download them again",
        ):
            load(tmp_path / "cut")


def test_a_folder_without_a_processor_is_refused(tmp_path):
    family("llava").tiny()[0].save_pretrained(tmp_path)
    with pytest.raises(
        FileNotFoundError,
        match=r"no processor or tokenizer is saved with the weights of '.*': .* pass it: load\(..., processor=...\)",
    ):
        load(tmp_path)


@pytest.mark.parametrize("dtype", ["float99", "Tensor"])
def test_an_unknown_type_is_refused(saved, dtype):
    with pytest.raises(ValueError, match=f"dtype: expected a floating-point type such as 'float32', .*, got '{dtype}'"):
        load(saved, dtype=dtype)


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_quantization_is_refused(saved):
    with pytest.raises(ValueError, match="quantization is '4bit' or '8bit', got '2bit'"):
        load(saved, quantization="2bit")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"quantization": "4bit"},
            r"quantization='4bit' needs bitsandbytes, which is not installed: pip install 'interp\[quantized\]'",
        ),
        (
            {"device_map": "auto"},
            r"device_map needs accelerate, which is not installed: pip install 'interp\[accelerate\]'",
        ),
    ],
    ids=["bitsandbytes", "accelerate"],
)
def test_a_missing_extra_is_named(saved, monkeypatch, settings, message):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=message):
        load(saved, **settings)


def test_code_that_comes_with_a_checkpoint_is_not_run(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "evil", "auto_map": {"AutoConfig": "evil.EvilConfig"}}')
    (tmp_path / "evil.py").write_text("raise SystemExit('the code ran')")
    with pytest.raises(ValueError, match=r"trust_remote_code|evil"):
        load(tmp_path)


def test_a_module_without_a_head_is_refused():
    config = transformers.LlamaConfig(vocab_size=64, **SHAPE)
    for module in (nn.Linear(2, 2), transformers.LlamaModel(config)):
        message = f"{type(module).__name__} is not a transformers model with a language-model head; load one as ...ForCausalLM"
        with pytest.raises(TypeError, match=message):
            load(module, processor=small_tokenizer())
