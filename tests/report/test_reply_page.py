"""The page about a reply as a file: it loads nothing, and nothing that a model says becomes markup."""

import base64
import hashlib
import re
from dataclasses import replace

import pytest

from interp.report.collect import compare_replies
from interp.report.reply_page import render_reply
from interp.report.write import write_comparison


@pytest.fixture(scope="module")
def text(compared) -> str:
    return render_reply(compared, command="interp report <b>")


def test_the_page_stands_alone_and_is_small(text) -> None:
    bare = re.sub(r"[A-Za-z0-9+/=]{200,}", "", text).replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r"(?i)https?:|url\(|@import|<link|<iframe| src=|\son[a-z]+=|eval\(|innerHTML", bare)
    assert len(text) < 4e6
    assert "interp report &lt;b&gt;" in text


def test_the_policy_lets_its_own_script_and_style_run_and_nothing_else(text) -> None:
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text).group(1)
    assert policy.startswith("default-src 'none';")
    for name, pattern in (("style", r"<style>(.*?)</style>"), ("script", r"<script>(.*?)</script>")):
        content = re.search(pattern, text, re.DOTALL).group(1)
        code = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{code}'" in policy
    assert "unsafe" not in policy


def test_the_data_are_the_views(text, compared, data_of) -> None:
    data = data_of(text)
    for plain, view, labels in zip(data["replies"], compared.views, compared.labels, strict=True):
        assert plain["words"][plain["first"] :] == list(view.reply.tokens)
        assert plain["labels"] == list(labels)
        assert plain["attention"]["shape"] == list(view.attention.shape)
        assert plain["logprobs"] == pytest.approx(list(view.reply.logprobs), rel=1e-3)
        assert [s["position"] for s in plain["sinks"]] == list(view.sinks.positions)
        assert plain["drift"]["anchors"][3] == view.drift.positive[3].nonzero().flatten().tolist()
    assert len(data["places"]) == 64
    assert data["places"][9]["box"] == [0.125, 0.125, 0.25, 0.25]


def test_nothing_in_the_data_can_end_the_element_it_stands_in(compared, data_of) -> None:
    evil = "</script><script>alert(1)</script><!--"
    first = replace(compared.views[0], notes=(evil,))
    text = render_reply(replace(compared, views=(first, *compared.views[1:]), truth=evil, image=evil), command=evil)
    assert text.count("<script") == 2
    assert text.count("</script>") == 2
    assert data_of(text)["replies"][0]["notes"] == [evil]


def test_an_impossible_token_is_no_number_that_json_lacks(compared, data_of) -> None:
    first = compared.views[0]
    first = replace(first, reply=replace(first.reply, logprobs=(-float("inf"), *first.reply.logprobs[1:])))
    text = render_reply(replace(compared, views=(first, *compared.views[1:])), command="")
    assert data_of(text)["replies"][0]["logprobs"][0] is None


def test_a_photograph_and_a_text_alone_make_pages_too(model_of, picture, tmp_path, data_of) -> None:
    model = model_of("llava_next")
    compared = compare_replies(model, model.prepare(picture(300, 900), "What is it?"), image="photo.jpg", longest=3)
    data = data_of(render_reply(compared, command=""))
    assert data["images"][0]["url"].startswith("data:image/jpeg;base64,")
    assert all(max(place["box"]) <= 1.01 for place in data["places"])
    assert set(data["replies"][0]["labels"]) == {"unknown"}
    alone = model_of("llama")
    write_comparison(
        compare_replies(alone, alone.prepare(None, "Hello"), longest=3), tmp_path / "new" / "a.html", command=""
    )
    assert data_of((tmp_path / "new" / "a.html").read_text())["places"] == []
