def test_model(check_language_model):
    check_language_model("gpt_neox")
