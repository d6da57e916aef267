import torch


def test_model(check_language_model):
    check_language_model("mistral")


def test_system_prompt_joins_the_first_question(tiny):
    tokenizer = tiny("mistral")[1]
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    assert text == "<s>[INST] Be brief.\n\nWhy? [/INST]"


def test_attention_reaches_sixteen_tokens_back(tiny):
    model = tiny("mistral")[0]
    ids = torch.arange(10, 50)[None]
    with torch.no_grad():
        near = model(ids).logits[0]
        moved = (model(torch.cat([ids[:, :1] + 100, ids[:, 1:]], 1)).logits[0] - near).abs().amax(-1) > 1e-5
    assert moved[:31].all()  # two layers of sixteen tokens each
    assert not moved[31:].any()
