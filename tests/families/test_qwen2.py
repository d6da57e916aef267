def test_model(check_language_model):
    check_language_model("qwen2")


def test_chat_has_a_system_prompt_of_its_own(tiny):
    tokenizer = tiny("qwen2")[1]
    chat = [{"role": "user", "content": "Why?"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text.startswith(
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>"
    )
    other = [{"role": "system", "content": "Be brief."}, *chat]
    assert tokenizer.apply_chat_template(other, tokenize=False).count("system") == 1
