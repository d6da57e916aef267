from interp.families.base import family


def test_model(check_qformer):
    check_qformer("blip_2")


def test_prompt():
    prompt = family("blip_2").prompt
    assert prompt(1, "Why?", None) == "Question: Why? Answer:"
    assert prompt(0, "Why?", "Be brief.") == "Be brief. Question: Why? Answer:"
