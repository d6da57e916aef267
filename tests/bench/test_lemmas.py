import sys

import pytest

from interp.bench.lemmas import LEMMATISERS, get_lemmatiser

SINGULAR = {
    "cats": "cat",
    "horses": "horse",
    "ties": "tie",
    "ponies": "pony",
    "couches": "couch",
    "boxes": "box",
    "dishes": "dish",
    "glasses": "glass",
    "knives": "knife",
    "women": "woman",
    "firemen": "fireman",
    "people": "person",
    "children": "child",
    "buses": "bus",
    "bus": "bus",
    "grass": "grass",
    "tennis": "tennis",
    "scissors": "scissors",
    "this": "this",
    "tvs": "tv",
    "canoes": "canoe",
    "tomatoes": "tomato",
    "skis": "ski",
    "sheep": "sheep",
    "mice": "mouse",
    "toothbrushes": "toothbrush",
    "cookies": "cookie",
    "vases": "vase",
    "taxis": "taxi",
    "is": "is",
    "": "",
    "red": "red",
    "men": "man",
}


@pytest.mark.parametrize("word", SINGULAR)
def test_singulars(word):
    assert get_lemmatiser("rules")(word) == SINGULAR[word]


def test_wordnet_keeps_men_and_reads_verbs():
    words = {
        "men": "men",
        "women": "woman",
        "skiing": "ski",
        "seated": "seat",
        "tied": "tie",
        "bowled": "bowl",
        "biking": "bike",
    }
    words |= {
        "parking": "parking",
        "building": "building",
        "red": "red",
        "bed": "bed",
        "ring": "ring",
        "glasses": "glass",
    }
    assert {w: get_lemmatiser("wordnet_like")(w) for w in words} == words


@pytest.mark.parametrize("name", LEMMATISERS)
def test_every_lemmatiser_knows_plain_plurals_and_leaves_the_rest(name):
    lemma = get_lemmatiser(name)
    assert [lemma(w) for w in ("cats", "umbrellas", "knives", "benches", "women")] == [
        "cat",
        "umbrella",
        "knife",
        "bench",
        "woman",
    ]
    assert [lemma(w) for w in ("cat", ".", "close-up")] == ["cat", ".", "close-up"]


@pytest.mark.parametrize("name", ["inflect", "pattern", "simplemma"])
def test_a_lemmatiser_without_its_library_says_what_to_install(name, monkeypatch):
    for module in ("inflect", "textblob.en.inflect", "textblob", "simplemma"):
        monkeypatch.setitem(sys.modules, module, None)
    from interp.bench import lemmas

    lemmas._inflect.cache_clear()
    with pytest.raises(
        ModuleNotFoundError, match=r'this lemmatiser needs (inflect|textblob|simplemma): pip install "interp\[lemmas\]"'
    ):
        get_lemmatiser(name)("cats")


def test_an_unknown_lemmatiser_is_refused_with_the_nearest():
    with pytest.raises(
        ValueError, match=r"no lemmatiser 'inflct' \(did you mean inflect\?\); lemmatisers: rules, wordnet_like"
    ):
        get_lemmatiser("inflct")
