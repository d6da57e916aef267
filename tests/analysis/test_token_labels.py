"""The tokens of mentions, on a tokenizer whose pieces are known."""

from types import SimpleNamespace

import pytest
import torch

from interp.analysis.token_labels import token_labels, token_spans
from interp.data.prompt import Reply
from interp.world.text import mentions


class Pieces:
    """Decodes ids as pieces of text; those in angle brackets are special."""

    def __init__(self, *pieces):
        self.pieces = pieces

    def decode(self, ids, skip_special_tokens=False):
        return "".join(p for p in (self.pieces[i] for i in ids) if not (skip_special_tokens and p.startswith("<")))


def reply_of(tokenizer):
    ids = tuple(range(len(tokenizer.pieces)))
    text = tokenizer.decode(ids, skip_special_tokens=True).strip()
    return Reply(text, tokenizer.pieces, ids, (0.0,) * len(ids), "end", SimpleNamespace())


PIECES = Pieces("<s>", " ", " A", " um", "brella", " and", " a cat", ".", "</s>")


@pytest.fixture(autouse=True)
def _any_prompt(unchecked):
    """A reply without a real prompt."""


def test_spans_cover_the_text_and_special_tokens_have_none():
    reply = reply_of(PIECES)
    assert reply.text == "A umbrella and a cat."
    spans = token_spans(reply, PIECES)
    assert spans == [(0, 0), (0, 0), (0, 1), (1, 4), (4, 10), (10, 14), (14, 20), (20, 21), (21, 21)]


def test_the_first_token_of_a_mention_or_all_of_them():
    reply = reply_of(PIECES)
    marked = [(2, 10, True), (17, 20, False)]
    first = token_labels(reply, marked, PIECES)
    assert first.hallucinated.nonzero().flatten().tolist() == [3]
    assert first.correct.nonzero().flatten().tolist() == [6]
    assert token_labels(reply, marked, PIECES, whole=True).hallucinated.nonzero().flatten().tolist() == [3, 4]
    assert first.labelled.sum() == 2


def test_a_mention_outside_the_text_is_refused():
    with pytest.raises(ValueError, match="from 3 to 99 is not inside the text of 21 characters"):
        token_labels(reply_of(PIECES), [(3, 99, True)], PIECES)


def test_on_the_embedded_model_every_marked_token_begins_its_word():
    import interp

    model = interp.load("scenes")
    text = "The image shows a kitchen. There is a red cup on the left and two umbrellas. Buses can be seen."
    ids = tuple(model.tokenizer(text, add_special_tokens=False)["input_ids"])
    reply = Reply(model.tokenizer.decode(ids).strip(), (), ids, (), "end", SimpleNamespace())
    named = mentions(reply.text)
    assert [m.name for m in named] == ["cup", "umbrella", "bus"]
    marked = token_labels(reply, [(m.start, m.end, True) for m in named], model.tokenizer)
    told = [model.tokenizer.decode([ids[i]]).strip().lower() for i in marked.hallucinated.nonzero().flatten().tolist()]
    assert len(told) == 3
    assert all(m.name.startswith(t[:2]) for m, t in zip(named, told, strict=True)), told
    assert not torch.any(marked.correct)
