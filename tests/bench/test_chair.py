import json
import os
from pathlib import Path

import numpy as np
import pytest

from interp.bench.base import Sample, build_benchmark, compute_scores
from interp.bench.chair import Chair
from interp.world import scenes
from interp.world.scoring import invented, score_captions

OFFICIAL = pytest.mark.skipif(
    "INTERP_TEST_DATA" not in os.environ, reason="INTERP_TEST_DATA does not name the folder of official files"
)


def score(bench, samples, replies):
    return compute_scores(bench, [(s, bench.read(r, s)) for s, r in zip(samples, replies, strict=True)])["total"]


def sample(*objects, captions=(), name="1"):
    return Sample(name, "?", truth={"objects": list(objects), "captions": list(captions)})


def test_scores_by_hand():
    bench = Chair(data="folder")
    samples = [sample("person", "dog", "bench", name="1"), sample("cat", name="2"), sample("car", "bus", name="3")]
    replies = ["A man and a dog with a cat, the cats asleep.", "A kitten on a sofa.", "Nothing to see."]
    # 1: person, dog, cat*, cat*; 2: cat, couch*; 3: none. Three hallucinated of six mentions, two captions of three, 3 of 6 objects.
    assert score(bench, samples, replies) == pytest.approx(
        {"chair_s": 2 / 3, "chair_i": 3 / 6, "recall": 3 / 6, "length": 19 / 3}
    )
    assert bench.outcome(samples[0], bench.read(replies[0], samples[0])) == {
        "hallucinates": True,
        "hallucinated": 2.0,
        "recall": 2 / 3,
    }


def test_without_mentions_chair_i_is_not_a_number():
    got = score(Chair(data="folder"), [sample("dog")], [""])
    assert (got["chair_s"], got["recall"], got["length"]) == (0, 0, 0)
    assert np.isnan(got["chair_i"])


def test_what_people_said_of_the_image_is_there_too():
    bench = Chair(data="folder")
    asked = sample("dog", captions=["A puppy beside two women.", "A frisbee flies."])
    assert bench.there(asked) == ["dog", "frisbee", "person"]
    assert bench.read("A woman throws a frisbee to a cat.", asked)["hallucinated"] == [False, False, True]


def test_labels_are_the_mentions_in_the_text():
    bench = Chair(data="folder")
    text = "A Man with two wine glasses and a cat."
    assert [(text[a:b], bad) for a, b, bad in bench.labels(sample("person"), text)] == [
        ("Man", False),
        ("wine glasses", True),
        ("cat", True),
    ]


def test_the_original_and_ours_read_the_same_reply_differently():
    text, asked = "Two men on a motor bike, skiing.", sample("person")
    named_by = {o: Chair(data="folder", strict_original=o).read(text, asked)["named"] for o in (True, False)}
    assert named_by == {True: ["motorcycle", "skis"], False: ["person", "motorcycle"]}


def test_on_scenes_the_scores_are_those_of_the_world():
    bench = build_benchmark("chair", n=20, split="counter_prior", seed=1)
    about = scenes("counter_prior", 20, 1)
    samples = bench.samples()
    replies = [about[i - 1].captions["detailed"] for i in range(20)]  # of other scenes
    got, expected = score(bench, samples, replies), score_captions(replies, about)
    assert got == pytest.approx(
        {
            "chair_s": expected.chair_s.value,
            "chair_i": expected.chair_i.value,
            "recall": expected.recall.value,
            "length": expected.words,
        }
    )
    assert 0 < got["chair_i"] < 1
    for s, reply, scene in zip(samples, replies, about, strict=True):
        assert [bad for _, _, bad in bench.labels(s, reply)] == invented(reply, scene)
        np.testing.assert_array_equal(np.asarray(bench.image(s)), scene.pixels)


def test_images_of_coco_are_drawn_by_seed_and_carry_their_ids(coco, capsys):
    folder = coco()
    one, again, other = (Chair(data=folder, n=7, seed=s).samples() for s in (1, 1, 2))
    assert one == again
    assert [s.id for s in one] != [s.id for s in other]
    assert len({s.id for s in one}) == 7
    first = one[0]
    assert first.image == f"COCO_val2014_{int(first.id):012d}.jpg"
    assert first.question == "Please describe this image in detail."
    assert Chair(data=folder).there(first) == (["cat", "dog"] if int(first.id) % 2 else ["dog"])
    assert len(Chair(data=folder, n=1000).samples()) == 30
    assert capsys.readouterr().out == ""  # pycocotools prints what it does


@pytest.mark.parametrize("text", ["[107, 103]", "107\n103\n"])
def test_a_published_list_of_ids_is_taken_unchanged(coco, tmp_path, text):
    (tmp_path / "ids.txt").write_text(text, encoding="utf-8")
    assert [s.id for s in Chair(data=coco(), ids=str(tmp_path / "ids.txt")).samples()] == ["107", "103"]
    (tmp_path / "ids.txt").write_text("107 7", encoding="utf-8")
    with pytest.raises(ValueError, match=r"asks for image 7, which is not in COCO val2014 \(1 such\)"):
        Chair(data=coco(), ids=str(tmp_path / "ids.txt")).samples()


def test_annotations_of_our_own_with_a_vocabulary_of_our_own(tmp_path):
    (tmp_path / "words.txt").write_text("owl, barn owl\nfox\n", encoding="utf-8")
    lines = [
        {"image": "a.jpg", "objects": ["owl"]},
        {"image": "b.jpg", "objects": "fox"},
        {"id": 3, "image": "c.jpg", "objects": [], "captions": ["Foxes."]},
    ]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    bench = Chair(data=str(tmp_path / "mine.jsonl"), synonyms=str(tmp_path / "words.txt"))
    with pytest.warns(UserWarning, match="mine.jsonl, line 2: objects and captions are lists of strings"):
        samples = bench.samples()
    assert [s.id for s in samples] == ["a.jpg", "3"]
    assert len(bench.problems()) == 1
    assert score(bench, samples, ["A barn owl and a fox.", "A fox."])["chair_i"] == 1 / 3
    with pytest.raises(FileNotFoundError, match="no folder of images was given"):
        bench.image(samples[0])


def test_settings_are_settled_and_unknown_ones_refused():
    assert Chair().settings()["lemmatiser"] == "rules"
    assert Chair(strict_original=True).settings()["lemmatiser"] == "wordnet_like"
    assert (Chair(data="x").split, Chair(data="x").synonyms) == ("val", "coco")
    with pytest.raises(ValueError, match="no lemmatiser 'snowball'"):
        Chair(lemmatiser="snowball")
    with pytest.raises(ValueError, match=r"no split 'test'; COCO has val, train, scenes have test, counter_prior"):
        Chair(data="x", split="test")
    with pytest.raises(ValueError, match=r"chair has no setting 'synonym' \(did you mean synonyms\?\)"):
        build_benchmark("chair", synonym="x")


@OFFICIAL
def test_the_original_finds_what_the_official_script_found():
    folder = Path(os.environ["INTERP_TEST_DATA"])
    official = json.loads((folder / "chair_llava15_sample64.json").read_text(encoding="utf-8"))
    bench = Chair(data="x", synonyms=str(folder / "chair_synonyms.txt"), strict_original=True)
    told = official["sentences"]
    samples = [sample(*s["mscoco_gt_words"], name=str(s["image_id"])) for s in told]
    readings = [bench.read(s["caption"], x) for s, x in zip(told, samples, strict=True)]
    assert np.mean([r["named"] == s["mscoco_generated_words"] for r, s in zip(readings, told, strict=True)]) >= 0.98
    wrong = [[n for n, bad in zip(r["named"], r["hallucinated"], strict=True) if bad] for r in readings]
    assert (
        np.mean([w == [n for _, n in s["mscoco_hallucinated_words"]] for w, s in zip(wrong, told, strict=True)]) >= 0.98
    )
    got = compute_scores(bench, zip(samples, readings, strict=True))["total"]
    for ours, theirs in {"chair_s": "CHAIRs", "chair_i": "CHAIRi", "recall": "Recall"}.items():
        assert got[ours] == pytest.approx(official["overall"][theirs], abs=0.005)
