"""The demo: a small one is run once, then everything about its report is checked."""

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

import interp
from interp.cli.app import main
from interp.data.tokens import Segment
from interp.report.asking import Treatment, exam, examine
from interp.report.looking import PARTS, look, mean_shares, resting
from interp.report.page import marked, page, table
from interp.report.pictures import pictures
from interp.report.study import Study, study, treatments, units
from interp.report.summary import Table, summary, tables
from interp.report.write import write
from interp.world import scenes

EVIL = "<script>alert('x')</script> & a chair"


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def found(told) -> Study:
    return study(interp.load("scenes"), 3, 0, told.append)


@pytest.fixture(scope="module")
def report(found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    facts = write(found, folder, command="interp demo --n 3", seconds=1.5)
    return folder, facts


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


# ---------------------------------------------------------------------------------------------------------- the study


def test_the_scenes_are_held_out(found) -> None:
    assert [s.signature for s in found.questions.about] == [s.signature for s in scenes("test", 3)]


def test_it_tells_as_often_as_it_says(found, told) -> None:
    assert len(told) == units(3)


def test_no_question_is_asked_twice_and_half_are_about_what_is_there(found) -> None:
    asked = [(id(p.images[0]), p.text) for _, p in found.questions.yes_no]
    pairs = [
        (scene.signature, q.text)
        for scene in found.questions.about
        for q, _ in found.questions.yes_no
        if q in scene.questions
    ]
    assert len(set(asked)) == len(asked)
    assert pairs
    answers = [q.answer for q, _ in found.questions.yes_no]
    assert answers.count("Yes") == answers.count("No") > 0
    for scene in found.questions.about:
        mine = [q for q, _ in found.questions.yes_no if any(q is one for one in scene.questions)]
        assert all((q.subject in scene.visible) == (q.answer == "Yes") for q in mine)


def test_captions_are_the_models_own_replies(found) -> None:
    model = interp.load("scenes")
    alone = interp.generate(model, found.questions.captions[1], max_new_tokens=80)
    assert found.outcomes[0].replies[1].ids == alone.ids


def test_a_treatment_is_what_generate_does_with_its_changes(found) -> None:
    model = interp.load("scenes")
    masked = found.outcomes[1]
    alone = interp.generate(model, found.questions.captions[0], *masked.treatment.interventions, max_new_tokens=80)
    assert masked.replies[0].ids == alone.ids


def test_the_model_as_it_is_differs_from_itself_in_nothing(found) -> None:
    answers, captions = found.outcomes[0].differs(found.outcomes[0])
    assert (answers.hits, captions.hits) == (0, 0)
    assert answers.n == len(found.questions.yes_no) + len(found.questions.others)


def test_a_change_that_changes_nothing_is_noted() -> None:
    model = interp.load("scenes")
    neutral = interp.interventions.attention.ScaleScores(Segment.IMAGE, 1.0)
    questions = exam(model, scenes("test", 1))
    assert examine(model, questions, Treatment("same", "", (neutral,)), lambda _: None).note.startswith(
        "It left every value"
    )
    assert examine(model, questions, Treatment("plain", ""), lambda _: None).note == ""


def test_shares_sum_to_one_and_the_sink_is_counted_once(found) -> None:
    for values in (found.by_layer, found.by_step):
        torch.testing.assert_close(values.sum(-1), torch.ones(values.shape[0]), atol=2e-3, rtol=0)
        assert float(values.min()) > -1e-3
    one = found.shown
    sink = one.pattern.float().mean(1)[:, :, list(found.rest.positions)].sum(-1)
    torch.testing.assert_close(one.shares(found.rest.positions)[..., PARTS.index("SINK")], sink)


def test_one_look_is_one_pass_of_the_library(found) -> None:
    model, one = interp.load("scenes"), found.shown
    seen = interp.capture(model, one.prompt, want={"pattern"}, grad={"pattern"}, target=one.at)
    row = len(one.prompt) - len(one.prompt.response_ids) - 1 + one.at
    torch.testing.assert_close(one.attention, seen.pattern[:, :, row].mean((0, 1)))
    torch.testing.assert_close(one.saliency, (seen.pattern * seen.pattern_grad).abs()[:, :, row].mean((0, 1)))
    assert one.prompt.tokens[row + 1] == one.word


def test_inside_the_box_by_hand(found) -> None:
    scene = scenes("test", 1)[0]
    one = replace(found.shown, objects=(replace(scene.objects[0], box=(0, 0, 16, 8)),))
    values = torch.zeros(len(one.prompt))
    places = list(one.prompt.layout.places())
    values[places[0]], values[places[2]] = (
        3.0,
        1.0,
    )  # the first two patches of 8 × 8 pixels lie in the box, the third does not
    assert one.inside(values) == pytest.approx((0.75, 2 / 64))


def test_without_sinks_the_most_attended_token_is_taken_and_labelled(found) -> None:
    none = [replace(one, table=replace(one.table, positions=())) for one in found.looks]
    rest = resting(none)
    assert not rest.found
    assert len(rest.positions) == 1
    assert rest.control not in rest.positions
    both = (*rest.positions, rest.control)
    most, control = (sum(float(one.table.received[:, :, p].mean()) for one in found.looks) for p in both)
    assert most >= control
    assert treatments(rest)[0].name == "most attended token (no sink) masked"
    without = replace(found, rest=rest)
    text = page(without, pictures(without), summary(without, "x", 1.0))
    assert "do not read it as a sink" in text
    assert "No sink by the default bounds" in text


def test_a_sink_must_last_in_half_of_the_replies(found) -> None:
    tables_ = [(0, 5), (0,), ()]
    looks = [replace(one, table=replace(one.table, positions=p)) for one, p in zip(found.looks, tables_, strict=True)]
    assert resting(looks).positions == (0,)
    assert resting(looks).scenes == (2,)


def test_replies_of_different_lengths_are_averaged_where_half_last(found) -> None:
    lengths = sorted(len(one.prompt.response_ids) for one in found.looks)
    assert mean_shares(found.looks, found.rest)[1].shape[0] == lengths[1]


def test_a_reply_that_names_nothing_is_looked_at_all_the_same() -> None:
    model, scene = interp.load("scenes"), scenes("test", 1)[0]
    prompt = model.prepare(scene.image, "What do you see?")
    one = look(model, scene, prompt, model.tokenizer("yes it is", add_special_tokens=False)["input_ids"])
    assert (one.at, one.named, one.objects) == (0, "", ())


# --------------------------------------------------------------------------------------------------------- the report


def test_the_page_stands_alone(report) -> None:
    text = (report[0] / "index.html").read_text(encoding="utf-8")
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


def test_the_page_has_headings_numbers_command_and_seed(report) -> None:
    read = Page((report[0] / "index.html").read_text(encoding="utf-8"))
    for word in ("1. What it can do", "2. Into one reply", "3. Where attention rests", "4. What happens without it"):
        assert word in read.text
    for word in ("interp demo --n 3", "seed 0", "CHAIR_s", "recall", "as it is", "control masked"):
        assert word in read.text
    assert [
        attributes["content"] for tag, attributes in read.tags if tag == "meta" and attributes.get("name") == "viewport"
    ]


def test_the_pictures_lie_beside_the_page(report) -> None:
    for path in report[0].glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 200
    assert len(list(report[0].glob("*.png"))) == 10
    assert {p.suffix for p in report[0].iterdir()} == {".png", ".html", ".json"}


def test_the_reply_shown_has_a_page_of_its_own(report, found) -> None:
    assert 'href="reply.html"' in (report[0] / "index.html").read_text(encoding="utf-8")
    text = (report[0] / "reply.html").read_text(encoding="utf-8")
    assert "interp demo --n 3" in text
    names = [r.variant.name for r in found.compared.readings]
    assert names == ["as it is", *(o.treatment.name for o in found.outcomes[1:])]
    said = [r.reply.text for r in found.compared.readings]
    index = found.questions.about.index(found.shown.scene)
    assert said == [o.replies[index].text for o in found.outcomes]


def test_the_summary_is_the_numbers(report, found) -> None:
    facts = json.loads((report[0] / "summary.json").read_text(encoding="utf-8"))
    assert facts == json.loads(json.dumps(report[1]))
    assert (facts["command"], facts["seed"], facts["n"]) == ("interp demo --n 3", 0, 3)
    before = facts["outcomes"][0]
    assert before["yes_no"]["accuracy"]["hits"] == found.outcomes[0].yes_no.accuracy.hits
    assert [o["treatment"] for o in facts["outcomes"]] == [o.treatment.name for o in found.outcomes]
    again = interp.interventions.base.from_dict(facts["outcomes"][1]["changes"][0])
    assert again == found.outcomes[1].treatment.interventions[0]


def test_what_a_model_says_cannot_become_part_of_the_page(found) -> None:
    said = [
        replace(o, replies=tuple(replace(r, text=EVIL) for r in o.replies), answers=(EVIL,) * len(o.answers))
        for o in found.outcomes
    ]
    shown = replace(found.shown, word=EVIL)
    rest = replace(found.rest, words=(EVIL,) * len(found.rest.words), control_word=EVIL)
    evil = replace(found, outcomes=tuple(said), looks=(shown, *found.looks[1:]), rest=rest)
    text = page(evil, pictures(evil), summary(evil, EVIL, 1.0))
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert EVIL.split(" &", maxsplit=1)[0] in Page(text).text


def test_tables_are_escaped_and_invented_words_marked() -> None:
    assert "<b>" not in table(Table("<b>", ("<b>", "<b>"), (("<b>", "<b>"),)))
    scene = next(s for s in scenes("test", 50) if "chair" not in s.present)
    assert (
        marked("a <b> and a Chair & chairs", scene) == "a &lt;b&gt; and a <mark>Chair</mark> &amp; <mark>chairs</mark>"
    )


def test_every_row_of_a_table_is_as_wide_as_its_heads(found) -> None:
    for made in tables(found).values():
        assert {len(row) for row in made.rows} == {len(made.heads)}


# -------------------------------------------------------------------------------------------------------- the command


def test_the_command_writes_the_report_and_prints_its_tables(found, tmp_path, capsys, monkeypatch) -> None:
    import interp.report

    monkeypatch.setattr(interp.report, "study", lambda model, n, seed, tell: found)
    assert main(["demo", "--n", "3", "--out", str(tmp_path / "new" / "report")]) == 0
    said = capsys.readouterr()
    assert (tmp_path / "new" / "report" / "index.html").is_file()
    for made in tables(found).values():
        assert made.title in said.out
    assert "step" in said.err
    assert main(["demo", "--n", "3", "--out", str(tmp_path / "again"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 3


def test_a_folder_that_cannot_be_written_is_one_clear_message(found, tmp_path, capsys, monkeypatch) -> None:
    import interp.report

    monkeypatch.setattr(interp.report, "study", lambda model, n, seed, tell: found)
    (tmp_path / "file").write_text("")
    assert main(["demo", "--n", "3", "--out", str(tmp_path / "file")]) == 1
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert "file" in said.err.splitlines()[-1]
