import base64
import hashlib
import json
import re
from dataclasses import replace

import pytest

from interp.cli.app import main
from interp.report.comparison import compare
from interp.report.token_page import token_page
from interp.report.write import write_comparison


@pytest.fixture(scope="module")
def text(found) -> str:
    return token_page(found, command="interp report <b>")


def data_of(text: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL).group(1))


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


def test_the_data_are_the_readings(text, found) -> None:
    data = data_of(text)
    for plain, reading, named in zip(data["readings"], found.readings, found.labels, strict=True):
        assert plain["words"][plain["first"] :] == list(reading.reply.tokens)
        assert plain["labels"] == list(named)
        assert plain["attention"]["shape"] == list(reading.attention.shape)
        assert plain["logprobs"] == pytest.approx(list(reading.reply.logprobs), rel=1e-3)
        assert [s["position"] for s in plain["sinks"]] == list(reading.sinks.positions)
        assert plain["drift"]["anchors"][3] == reading.drift.positive[3].nonzero().flatten().tolist()
    assert len(data["places"]) == 64
    assert data["places"][9]["box"] == [0.125, 0.125, 0.25, 0.25]


def test_nothing_in_the_data_can_end_the_element_it_stands_in(found) -> None:
    evil = "</script><script>alert(1)</script><!--"
    first = replace(found.readings[0], notes=(evil,))
    text = token_page(replace(found, readings=(first, *found.readings[1:]), truth=evil, image=evil), command=evil)
    assert text.count("<script") == 2
    assert text.count("</script>") == 2
    assert data_of(text)["readings"][0]["notes"] == [evil]


def test_an_impossible_token_is_no_number_that_json_lacks(found) -> None:
    first = found.readings[0]
    first = replace(first, reply=replace(first.reply, logprobs=(-float("inf"), *first.reply.logprobs[1:])))
    text = token_page(replace(found, readings=(first, *found.readings[1:])), command="")
    assert data_of(text)["readings"][0]["logprobs"][0] is None


def test_a_photograph_and_a_text_alone_make_pages_too(model_of, picture, tmp_path) -> None:
    model = model_of("llava_next")
    found = compare(model, model.prepare(picture(300, 900), "What is it?"), image="photo.jpg", longest=3)
    data = data_of(token_page(found, command=""))
    assert data["images"][0]["url"].startswith("data:image/jpeg;base64,")
    assert all(max(place["box"]) <= 1.01 for place in data["places"])
    assert set(data["readings"][0]["labels"]) == {"unknown"}
    alone = model_of("llama")
    write_comparison(compare(alone, alone.prepare(None, "Hello"), longest=3), tmp_path / "new" / "a.html", command="")
    assert data_of((tmp_path / "new" / "a.html").read_text())["places"] == []


def test_the_command_writes_the_page_and_says_what_was_said(tmp_path, capsys) -> None:
    file = tmp_path / "changes.json"
    file.write_text('[{"kind": "ScaleScores", "keys": {"kind": "segment", "of": ["IMAGE"]}, "by": 1.5}]')
    given = ["report", "scene:test/3", "What do you see?", "--interventions", str(file), "--method", "vaf:enhance=1.3"]
    assert main([*given, "--out", str(tmp_path / "a.html"), "--max-new-tokens", "12", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [r["model"] for r in told["replies"]] == ["as it is", "vaf:enhance=1.3", "changes.json"]
    data = data_of((tmp_path / "a.html").read_text())
    assert [r["name"] for r in data["readings"]] == ["as it is", "vaf:enhance=1.3", "changes.json"]
    assert (
        main(["report", "scene:test/3", "What?", "--response", "A dog and a chair.", "--out", str(tmp_path / "b.html")])
        == 0
    )
    said = capsys.readouterr().out
    assert "A dog and a chair." in said
    assert "b.html" in said
    assert data_of((tmp_path / "b.html").read_text())["readings"][0]["labels"].count("invented") == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--method", "spaer"), "no method 'spaer'"),
        (("--interventions", "nowhere.json"), "nowhere.json"),
        (("--response", ""), "the response is empty"),
    ],
)
def test_what_cannot_be_is_one_clear_message(given, words, tmp_path, capsys) -> None:
    assert main(["report", "scene:test/3", "What?", *given, "--out", str(tmp_path / "a.html")]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "a.html").exists()
