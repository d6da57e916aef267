def test_model(check_language_model):
    check_language_model("llama")


def test_chat(tiny):
    tokenizer = tiny("llama")[1]
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    head = "<|start_header_id|>{}<|end_header_id|>\n\n"
    system, user, assistant = map(head.format, ("system", "user", "assistant"))
    assert text == f"<s>{system}Be brief.<|eot_id|>{user}Why?<|eot_id|>{assistant}"
