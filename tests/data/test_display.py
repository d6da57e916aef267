"""What a notebook shows of a value: escaped, and what it should be."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

import interp
from interp.analysis.anchors import VisualAnchors
from interp.analysis.budget import Budget, SegmentShares
from interp.analysis.readouts import LogitLens
from interp.analysis.saliency import ResponseSaliency
from interp.analysis.sinks import Sinks
from interp.data import display
from interp.data.colours import WARM
from interp.data.prompt import Capture
from interp.data.results import Failure, Samples
from interp.data.tokens import Segment
from interp.interventions.attention import ScaleScores

EVIL = "<script>alert('x')</script>&"


class Shown(HTMLParser):
    """The text of a piece of HTML, and whether every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.tags, self.open = "", [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text += data


def pictures(html: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(one))) for one in found]


@pytest.fixture
def model(model_of):
    return model_of("llava")


@pytest.fixture
def prompt(model, picture):
    return model.prepare(picture(), "What is there?", response="A red chair")


# ------------------------------------------------------------------------------------------------------------ the parts


def test_a_scale_runs_from_nothing_to_the_largest() -> None:
    html = display.scores_html(("a", "b", "c"), (0.0, 1.0, 2.0), "nats")
    grounds = re.findall(r"background:(#\w+);", html)
    assert grounds == [WARM[0], WARM[3], WARM[-1]]
    assert Shown(html).text == "abc0  2 nats"


def test_a_word_many_times_in_a_row_is_shown_once() -> None:
    html = display.scores_html(("a", *["<image>"] * 9, "b", "b"), (0.0, *[0.5] * 8, 1.4, 0.0, 0.0), "share")
    assert Shown(html).text.startswith("a<image> × 9bb")
    assert 'title="0.6"' in html


def test_nothing_but_zeros_or_unknowns_can_be_scored() -> None:
    for values in ((0.0, 0.0), (float("nan"), 0.0), ()):
        html = display.scores_html(("a", "b")[: len(values)], values, "share")
        assert set(re.findall(r"background:(#\w+);", html)) <= {WARM[0]}


def test_the_tokens_of_an_image_stand_together() -> None:
    html = display.segments_html(("<s>", "<image>", "<image>", "\n"), ("SYSTEM", "IMAGE", "IMAGE", "USER"))
    assert Shown(html).text == "<s>▦ 2 image tokens\\nSYSTEMIMAGEUSER"


def test_a_heat_map_has_a_cell_an_entry() -> None:
    html = display.heat_map(torch.tensor([[0.0, 4.0], [float("nan"), 2.0]]), "share")
    (drawn,) = pictures(html)
    wide, tall = drawn.size
    corners = [drawn.getpixel((x, y)) for y in (0, tall - 1) for x in (0, wide - 1)]
    assert corners[0] == tuple(bytes.fromhex(WARM[0][1:]))
    assert corners[1] == tuple(bytes.fromhex(WARM[-1][1:]))
    assert corners[3] == tuple(bytes.fromhex(WARM[3][1:]))
    assert len(set(corners)) == 4


def test_a_long_table_is_cut_and_says_so() -> None:
    shown = Shown(display.table_html(("n",), [(i,) for i in range(20)]))
    assert shown.tags.count("td") == display.MOST_ROWS
    assert "and 8 more rows" in shown.text


def test_an_array_is_shown_by_its_two_most_telling_axes() -> None:
    array = torch.arange(24.0).reshape(2, 3, 4)
    shown = Shown(display.array_html(array, "share", ("layer", "head", "query"), {"layer": [5, 9]}))
    assert "share, mean over query" in shown.text
    assert "↓ layer 5 to 9 · → head 0 to 2" in shown.text
    assert "0  21.5 share" in shown.text
    assert "is empty" in display.array_html(torch.empty(0, 3), "share", ("layer", "head"), {})
    assert "→ layer 0 to 2" in display.array_html(torch.rand(3), "median", ("layer",), {})
    assert len(pictures(display.array_html(torch.tensor(3.0), "one", (), {}))) == 1


# ----------------------------------------------------------------------------------------------------------- the values


def test_a_prompt_shows_its_image_and_the_segment_of_every_token(prompt) -> None:
    html = prompt._repr_html_()
    shown = Shown(html)
    assert len(pictures(html)) == 1
    assert f"{len(prompt)} tokens" in shown.text
    assert f"▦ {len(prompt.layout.positions(Segment.IMAGE))} image tokens" in shown.text
    for name in set(prompt.layout.names):
        assert name in shown.text


def test_a_reply_shows_how_unlikely_its_tokens_were_and_what_was_changed(model, prompt) -> None:
    reply = interp.generate(
        model, model.prepare(prompt.images[0], "What?"), ScaleScores(Segment.IMAGE, 2.0), max_new_tokens=3
    )
    html = reply._repr_html_()
    assert reply.text in Shown(html).text
    assert "ScaleScores" in Shown(html).text
    assert f'title="{-reply.logprobs[0]:.3g}"' in html
    assert "stopped by: length" in html


def test_a_capture_shows_its_arrays_and_where_the_last_row_looks(model, prompt, tmp_path) -> None:
    seen = interp.capture(model, prompt, want={"pattern", "resid_post"})
    html = seen._repr_html_()
    shown = Shown(html)
    assert "layer head query key" in shown.text
    assert len(pictures(html)) == len(prompt.layout.grids)
    assert f"What position {len(prompt) - 1}" in shown.text
    on_disk = Capture.load(seen.save(tmp_path / "seen.safetensors"))._repr_html_()
    assert "resid_post" in Shown(on_disk).text
    assert not pictures(on_disk)


@pytest.mark.parametrize(
    "analysis", [Sinks(), Budget(), ResponseSaliency(), VisualAnchors(), LogitLens()], ids=lambda a: type(a).__name__
)
def test_every_result_shows_its_summary_and_its_arrays(model, prompt, analysis) -> None:
    found = interp.measure(model, prompt, analysis)
    shown = Shown(found._repr_html_())
    assert type(found).__name__ in shown.text
    for name, axes in found.axes().items():
        assert name in shown.text
        assert " ".join(axes) in shown.text


def test_the_sinks_are_a_table() -> None:
    model = interp.load("scenes")
    table = interp.measure(model, model.prepare(None, "Describe the image.", response="A dog"), Sinks(epsilon=0.05))
    assert table.positions
    assert "massive_ratio" in Shown(table._repr_html_()).text


def test_samples_show_their_mean_and_what_failed() -> None:
    results = tuple(SegmentShares(torch.full((2, 3, 4), value), (0, 1)) for value in (0.2, 0.4))
    shown = Shown(Samples(results, (0, 2), (Failure(1, EVIL),))._repr_html_())
    assert "2 measured, 1 failed" in shown.text
    assert EVIL in shown.text
    assert "0.3 share, mean over samples" in shown.text
    assert "0 measured, 1 failed" in Samples((), (), (Failure(0, "x"),))._repr_html_()


def test_nothing_a_model_says_becomes_markup(model, prompt) -> None:
    words = (*prompt.tokens[:-1], EVIL)
    reply = interp.generate(model, model.prepare(prompt.images[0], "What?"), max_new_tokens=2)
    seen = interp.capture(model, prompt, want={"pattern"})
    table = interp.measure(model, prompt, Sinks())
    values = (
        replace(prompt, tokens=words),
        replace(reply, text=EVIL, tokens=(EVIL, EVIL)),
        replace(seen, tokens=words, model=EVIL),
        replace(table, words=words, positions=(len(words) - 1,)),
    )
    for value in values:
        html = value._repr_html_()
        assert "<script" not in html
        assert EVIL in Shown(html).text


def test_models_layouts_and_interventions_are_shown_as_tables(model_of, picture) -> None:
    from interp.data.tokens import Segment
    from interp.interventions.attention import MaskAttention

    model = model_of("llava")
    prompt = model.prepare(picture(), "What is <b>this</b>?")
    assert "Model LlavaForConditionalGeneration" in model._repr_html_()
    layout = prompt.layout._repr_html_()
    assert f"Layout of {len(prompt)} tokens" in layout
    assert "IMAGE" in layout
    change = MaskAttention(Segment.IMAGE)._repr_html_()
    assert "MaskAttention" in change
    assert "IMAGE" in change


def test_a_scene_is_shown_with_its_objects() -> None:
    from interp.world import scenes

    (scene,) = scenes("test", 1)
    shown = scene._repr_html_()
    assert "data:image/png" in shown
    assert all(thing.name in shown for thing in scene.objects)
