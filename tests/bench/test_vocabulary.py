import pytest

from interp.bench.lemmas import get_lemmatiser, rules
from interp.bench.vocabulary import _read_rows, build_vocabulary, find_mentions

LIST = """person, man, woman, people, baby
bicycle, bike
motorcycle,  motor bike, motor cycle
train
bear, panda
elephant
tie, bow, bow tie
wine glass
cake,  cheesecake
chair, seat, stool
dining table, table
toilet, potty
cell phone, phone, iPhone
oven, stove, stove top oven
hot dog
dog
"""


@pytest.fixture
def synonyms(tmp_path):
    (tmp_path / "objects.txt").write_text(LIST, encoding="utf-8")
    return str(tmp_path / "objects.txt")


def named(text, source, *, original=False, lemma=rules):
    return [m.name for m in find_mentions(text, build_vocabulary(source, original=original), lemma)]


QUIRKS = {  # text: what the original finds, what we find
    "A man on a motor bike.": (
        "person",
        "person motorcycle",
    ),  # its entry has a leading blank, and the merge hides "bike"
    "Two motor cycles.": ("motorcycle", "motorcycle"),
    "A cheesecake and a cake.": ("cake", "cake cake"),  # the same blank
    "An iPhone beside a phone.": ("cell phone", "cell phone cell phone"),  # capitals never match lower-cased text
    "A stove top oven.": ("oven oven", "oven"),  # three words are never merged
    "A train track and a train.": ("train", "train"),
    "A player on the home plate.": ("", ""),
    "A dining table.": ("dining table", "dining table"),
    "A toilet seat, and a seat.": ("toilet", "toilet chair"),  # a toilet takes every seat away
    "A seat.": ("chair", "chair"),
    "A toilet and two seats.": ("toilet", "toilet chair"),
    "A baby elephant and an adult bear, and a baby.": ("elephant bear person", "elephant bear person"),
    "A passenger train.": ("train", "train"),
    "A bow tie.": ("tie", "tie"),
    "Wine glasses on a table.": ("wine glass dining table", "wine glass dining table"),
    "Two hot dogs, a dog. Hot, dogs": (
        "hot dog dog dog",
        "hot dog dog dog",
    ),  # what stands between two words parts them
    "A hot-dog": ("", "hot dog"),
    "The man's bikes": ("person bicycle", "person bicycle"),
    "People and PEOPLE": ("person person", "person person"),
    "": ("", ""),
}


@pytest.mark.parametrize("text", QUIRKS)
def test_what_the_original_finds_and_what_we_find(text, synonyms):
    joined = [" ".join(named(text, synonyms, original=o)) for o in (True, False)]
    assert tuple(joined) == QUIRKS[text]


def test_mentions_stand_where_they_are(synonyms):
    text = "Wine glasses, a Hot Dog and the man's iPhone."
    found = find_mentions(text, build_vocabulary(synonyms), rules)
    assert [text[m.start : m.end] for m in found] == ["Wine glasses", "Hot Dog", "man", "iPhone"]


def test_a_line_with_a_dash_names_nothing(tmp_path):
    (tmp_path / "x.txt").write_text("# mine\nbus, coach\n\n- bus stop, coach house\n", encoding="utf-8")
    assert named("A bus at the bus stops by the coach house, a coach.", str(tmp_path / "x.txt")) == ["bus", "bus"]
    assert build_vocabulary(str(tmp_path / "x.txt")).objects == ["bus"]


def test_our_own_list_has_the_80_objects_of_coco_each_word_once():
    known = build_vocabulary("coco")
    assert len(known.objects) == 80
    words = [w.strip() for row in _read_rows("coco") if not row.startswith("- ") for w in row.split(",")]
    assert len(words) == len(set(words))
    for word in words:
        assert {m.name for m in find_mentions(f"There is a {word}.", known, rules)} == {
            known.words.get(word) or known.phrases[word]
        }


@pytest.mark.parametrize("lemma", ["rules", "inflect"])
def test_plurals_of_all_80_are_found(lemma):
    import inflect

    plural, known = inflect.engine().plural_noun, build_vocabulary("coco")
    same = ("scissors", "skis", "sheep", "broccoli")
    for name in known.objects:
        text = f"Two {name if name in same else plural(name)}."
        assert named(text, "coco", lemma=get_lemmatiser(lemma)) == [name], text


def test_the_world_in_its_own_words():
    assert named("Two benches, buses and people by a Chair", "world") == ["bench", "bus", "person", "chair"]


def test_a_list_that_is_missing_or_empty_is_refused(tmp_path, synonyms):
    with pytest.raises(FileNotFoundError, match=r"did you mean objects.txt\?"):
        build_vocabulary(synonyms.replace("objects", "object"))
    (tmp_path / "none.txt").write_text("\n# nothing\n", encoding="utf-8")
    with pytest.raises(ValueError, match="names no object; a line is an object"):
        build_vocabulary(str(tmp_path / "none.txt"))
