"""The page in a browser: it draws, clicks and sliders and keys change it, and nothing a model says runs."""

from dataclasses import replace

import pytest

from interp.data.tokens import Segment
from interp.interventions.attention import ScaleScores
from interp.report.collect import compare_replies
from interp.report.reply_view import Variant
from interp.report.write import write_comparison

MAP = ".panel.attention .image canvas"
EVIL = "<script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">"


@pytest.fixture(scope="module")
def page(compared, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "reply.html"
    write_comparison(compared, path, command="interp report")
    return path


@pytest.fixture
def shown(browser, page):
    browser.open(page)
    yield browser
    assert browser.complaints() == []


def click(browser, reply: int, token: int) -> None:
    browser.run(f'document.querySelector(\'.token[data-reply="{reply}"][data-token="{token}"]\').click()')


def slide(browser, name: str, value: int) -> None:
    browser.run(
        "const s = document.getElementById(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('input'))",
        name,
        value,
    )


def press(browser, key: str) -> None:
    for kind in ("rawKeyDown", "keyUp"):
        browser.driver.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": kind, "key": key, "code": key})


def test_every_token_of_every_reply_is_a_button(shown, compared) -> None:
    counts = shown.run(
        "return [...document.querySelectorAll('.reply')].map(c => c.querySelectorAll('button.token').length)"
    )
    assert counts == [len(r.reply.tokens) for r in compared.views]
    assert shown.run("return document.querySelectorAll('.token.invented').length") == sum(
        named.count("invented") for named in compared.labels
    )
    assert shown.run("return document.getElementById('failed').hidden")


def test_it_begins_with_the_first_invented_object(shown, compared) -> None:
    token = compared.labels[0].index("invented")
    assert compared.views[0].reply.tokens[token] in shown.text("#token-head")
    assert shown.run("return document.querySelector('.token[aria-pressed=true]').dataset.token") == str(token)


def test_the_numbers_are_those_of_the_pass(shown, compared) -> None:
    view = compared.views[1]
    click(shown, 1, 10)
    slide(shown, "layer", 3)
    slide(shown, "head", 5)
    row = view.attention[3, 5, 10]
    image = list(view.prompt.layout.places())
    said = shown.text(".panel.attention .image figcaption")
    on_image, most = (
        float(said.split(a)[1].split(b)[0].replace("−", "-")) for a, b in (("On the image ", ";"), ("(", ")"))
    )
    assert on_image == pytest.approx(float(row[image].sum()), rel=0.03, abs=2e-3)
    assert most == pytest.approx(float(row[image].max()), rel=0.03, abs=2e-3)
    budget = shown.run("return document.querySelector('.stack .now .whole').title")
    parts = {p.split(" ")[0]: float(p.split(" ")[1]) for p in budget.split(", ")}
    for value, share in zip(parts.values(), view.shares[3, 5, 10], strict=True):
        assert value == pytest.approx(float(share), abs=6e-4)


def test_a_click_and_each_slider_change_the_picture(shown) -> None:
    seen = [shown.picture(MAP)]
    click(shown, 0, 3)
    seen.append(shown.picture(MAP))
    slide(shown, "layer", 1)
    seen.append(shown.picture(MAP))
    slide(shown, "head", 2)
    seen.append(shown.picture(MAP))
    assert len(set(seen)) == 4
    assert not shown.run("return document.getElementById('every-head').checked")
    shown.run("document.getElementById('every-head').click()")
    assert shown.picture(MAP) == seen[2]
    shown.run("document.getElementById('every-layer').click()")
    assert shown.picture(MAP) == seen[1]


def test_a_cell_of_the_grid_chooses_layer_and_head(shown, compared) -> None:
    layers = len(compared.views[0].attention)
    where = shown.run(
        "const c = document.querySelector('.panel.attention .heads'); c.scrollIntoView(); const b = c.getBoundingClientRect();"
        "c.dispatchEvent(new MouseEvent('click', {clientX: b.left + 1, clientY: b.top + 1, bubbles: true}));"
        "return [document.getElementById('layer').value, document.getElementById('head').value]"
    )
    assert where == [str(layers - 1), "0"]


def test_one_scale_and_anchors_can_be_switched(shown) -> None:
    slide(shown, "layer", 2)
    before = shown.text(".panel.attention .image .scale")
    shown.run("document.getElementById('one-scale').click()")
    assert shown.text(".panel.attention .image .scale") != before
    drawn = shown.picture(MAP)
    shown.run("document.getElementById('anchors').click()")
    assert shown.picture(MAP) != drawn


def test_tokens_can_be_coloured_by_something_else(shown) -> None:
    colour = "return document.querySelector('.token').style.background"
    before = shown.run(colour)
    for score in ("salient_image", "on_image", "surprisal"):
        shown.run(
            "const s = document.getElementById('by'); s.value = arguments[0]; s.dispatchEvent(new Event('change'))",
            score,
        )
        assert shown.run("return document.getElementById('by').value") == score
    assert shown.run(colour) != before


def test_the_keyboard_goes_along_the_reply(shown, compared) -> None:
    click(shown, 0, 0)
    shown.run("document.querySelector('.token[tabindex=\"0\"]').focus()")
    assert shown.run("return document.querySelectorAll('.token[tabindex=\"0\"]').length") == 1
    here = "return [document.activeElement.dataset.reply, document.activeElement.dataset.token]"
    words, head = compared.views[0].reply.tokens, []
    for key, token in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", len(words) - 1), ("Home", 0)):
        press(shown, key)
        assert shown.run(here) == ["0", str(token)]
        assert shown.text("#token-head").startswith(f"“{words[token]}”")
        head.append(shown.picture(MAP))
    assert len(set(head)) == 4
    assert shown.run("return getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_every_control_has_a_name(shown) -> None:
    nameless = shown.run(
        "return [...document.querySelectorAll('button, input, select, canvas, svg')].filter(e => "
        "!e.getAttribute('aria-label') && !(e.labels && e.labels.length) && !e.textContent.trim()).map(e => e.outerHTML)"
    )
    assert nameless == []


def test_the_same_reply_is_shown_under_every_variant(shown, compared) -> None:
    assert shown.run("return document.querySelectorAll('#again .card').length") == len(compared.views)
    click(shown, 1, 0)
    assert shown.run("return document.querySelectorAll('#again .card').length") == 0
    assert compared.views[0].variant.name in shown.text("#again")


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_has_to_be_scrolled_sideways(browser, page, width) -> None:
    browser.open(page, width)
    wide, seen, inner = browser.run(
        "const page = document.documentElement; return [page.scrollWidth, page.clientWidth, innerWidth]"
    )
    assert wide == seen
    assert inner == width


@pytest.mark.parametrize("family", ["llama", "instructblip", "paligemma"])
def test_models_without_an_image_its_places_or_saliency(browser, model_of, picture, tmp_path, family) -> None:
    model = model_of(family)
    prompt = model.prepare(None if family == "llama" else picture(), "What is there?")
    compared = compare_replies(
        model, prompt, [Variant("louder", (ScaleScores(Segment.USER, 1.5),))], response="A red chair"
    )
    write_comparison(compared, tmp_path / "page.html", command="")
    browser.open(tmp_path / "page.html")
    count = len(compared.views[0].reply.ids)
    click(browser, 0, count - 1)
    assert f"Token {count} of {count}" in browser.text("#token-facts")
    assert (
        browser.run("return document.querySelectorAll('canvas.map').length")
        == ({"llama": 0, "instructblip": 4, "paligemma": 3}[family])
    )
    assert "–" not in browser.text("main").replace("−", "-")
    assert browser.complaints() == []


def test_what_a_model_says_never_runs(browser, compared, tmp_path) -> None:
    first = compared.views[0]
    words = (*first.prompt.tokens[:-3], EVIL, "</script>", "<!--<script>")
    request = replace(first.prompt.request, text=EVIL)
    evil = replace(
        first,
        reply=replace(first.reply, text=EVIL),
        prompt=replace(first.prompt, tokens=words, request=request),
        notes=(EVIL,),
    )
    said = replace(compared, views=(evil, *compared.views[1:]), image=EVIL, truth=EVIL, prompt=evil.prompt)
    write_comparison(said, tmp_path / "evil.html", command=EVIL)
    browser.open(tmp_path / "evil.html")
    assert "broken" not in browser.run("return document.title.replace(arguments[0], '')", EVIL)
    assert browser.run("return document.querySelectorAll('img').length") == len(compared.prompt.images)
    assert browser.run("return document.scripts.length") == 2
    assert EVIL in browser.run("return [...document.querySelectorAll('.token')].map(t => t.textContent)")
    click(browser, 0, len(first.reply.tokens) - 2)
    assert "</script>" in browser.text("#token-head")
    assert browser.complaints() == []


def test_the_policy_stops_a_script_that_gets_in(browser, page, tmp_path) -> None:
    broken = page.read_text(encoding="utf-8").replace(
        "<noscript>", "<script>document.body.dataset.got = 'in'</script><noscript>"
    )
    (tmp_path / "broken.html").write_text(broken, encoding="utf-8")
    browser.open(tmp_path / "broken.html")
    assert browser.run("return document.body.dataset.got || null") is None
    assert any("Content Security Policy" in entry["message"] for entry in browser.complaints())
