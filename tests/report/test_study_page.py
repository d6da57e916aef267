"""The page about a study: one file that loads nothing, with all model output escaped."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

from interp.report.study_figures import draw_figures
from interp.report.study_page import mark_invented, render_study, render_table
from interp.report.study_tables import StudyTable, summarise_study
from interp.world import scenes

EVIL = "<script>alert('x')</script> & a chair"


class Page(HTMLParser):
    """Every tag with its attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text += data


def render(study, command="interp demo --n 3") -> str:
    return render_study(study, draw_figures(study), summarise_study(study, command, 1.5))


def test_the_page_loads_nothing(study) -> None:
    text = render(study)
    read = Page(text)
    assert not read.open
    assert not re.findall(
        r"(?i)https?:|//[a-z]|url\(|@import|<script|<link|<iframe", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    )
    sources = [attributes["src"] for tag, attributes in read.tags if tag == "img"]
    assert len(sources) == 10
    assert all(s.startswith("data:image/png;base64,") for s in sources)
    assert all(base64.b64decode(s.split(",")[1]).startswith(b"\x89PNG") for s in sources)
    assert all(attributes.get("alt") for tag, attributes in read.tags if tag == "img")
    assert "$" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)


def test_the_page_has_headings_numbers_command_and_seed(study) -> None:
    read = Page(render(study))
    for word in ("1. Accuracy", "2. One reply", "3. Attention sinks", "4. Interventions on the sinks"):
        assert word in read.text
    for word in ("interp demo --n 3", "seed 0", "CHAIR_s", "recall", "baseline", "control masked"):
        assert word in read.text
    assert [
        attributes["content"] for tag, attributes in read.tags if tag == "meta" and attributes.get("name") == "viewport"
    ]


def test_model_output_never_becomes_markup(study) -> None:
    said = [
        replace(o, replies=tuple(replace(r, text=EVIL) for r in o.replies), answers=(EVIL,) * len(o.answers))
        for o in study.outcomes
    ]
    prompt, at = study.shown.view.prompt, study.shown.at - len(study.shown.view.reply.ids)
    tokens = list(prompt.tokens)
    tokens[at] = EVIL
    shown = replace(study.shown, view=replace(study.shown.view, prompt=replace(prompt, tokens=tuple(tokens))))
    assert shown.word == EVIL
    sinks = replace(study.sinks, words=(EVIL,) * len(study.sinks.words), control_word=EVIL)
    evil = replace(study, outcomes=tuple(said), replies=(shown, *study.replies[1:]), sinks=sinks)
    text = render(evil, EVIL)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert EVIL.split(" &", maxsplit=1)[0] in Page(text).text


def test_tables_are_escaped_and_invented_words_marked() -> None:
    assert "<b>" not in render_table(StudyTable("<b>", ("<b>", "<b>"), (("<b>", "<b>"),)))
    scene = next(s for s in scenes("test", 50) if "chair" not in s.present)
    assert (
        mark_invented("a <b> and a Chair & chairs", scene)
        == "a &lt;b&gt; and a <mark>Chair</mark> &amp; <mark>chairs</mark>"
    )


def test_a_study_without_sinks_says_so(study) -> None:
    text = render(replace(study, sinks=replace(study.sinks, found=False)))
    assert "which is not a sink" in text
    assert "No sink by the default thresholds" in text
