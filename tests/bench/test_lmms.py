"""The adapter for lmms-eval, on a stand-in for its abstract class."""

import abc
import sys
from types import ModuleType, SimpleNamespace

import pytest

import interp
from interp.bench.lmms import adapter, generate_options
from interp.data.tokens import Segment
from interp.interventions.attention import ScaleScores


class Lmms(abc.ABC):
    """What lmms_eval.api.model.lmms asks of a model."""

    def __init__(self):
        self.task_dict, self.kept = {}, []
        self.cache_hook = SimpleNamespace(add_partial=lambda *a: self.kept.append(a))

    @abc.abstractmethod
    def loglikelihood(self, requests): ...

    @abc.abstractmethod
    def generate_until(self, requests): ...

    @abc.abstractmethod
    def generate_until_multi_round(self, requests): ...


@pytest.fixture
def installed(monkeypatch):
    module = ModuleType("lmms_eval.api.model")
    module.lmms = Lmms
    for name in ("lmms_eval", "lmms_eval.api", module.__name__):
        there = module if name == module.__name__ else ModuleType(name)
        monkeypatch.setitem(sys.modules, name, there)


@pytest.fixture
def asked(picture):
    """Return a function that gives a model three documents and makes a request of each."""
    documents = [{"image": picture(seed=i), "text": f"What is it, {'really ' * i}now?"} for i in range(3)]

    def requests(lm, **kwargs):
        lm.task_dict["task"] = {"test": documents}
        kwargs = {"max_new_tokens": 4, **kwargs}
        return [
            SimpleNamespace(args=(f"<image>\n{d['text']}", dict(kwargs), lambda d: [d["image"]], i, "task", "test"))
            for i, d in enumerate(documents)
        ]

    return requests, documents


def test_replies_are_those_of_generate_under_the_same_changes(installed, asked, model_of):
    model, (requests, documents) = model_of("llava"), asked
    change = ScaleScores(Segment.IMAGE, 3.0)
    prompts = [model.prepare(d["image"], d["text"]) for d in documents]
    expected = [interp.generate(model, p, change, max_new_tokens=4).text for p in prompts]
    plain = [interp.generate(model, p, max_new_tokens=4).text for p in prompts]
    assert expected != plain
    for size in (1, 2):
        lm = adapter(model, change, batch_size=size)
        assert isinstance(lm, Lmms)
        assert lm.generate_until(requests(lm)) == expected
        assert [k[2] for k in lm.kept] == expected
    assert adapter(model).device == model.device
    lm = adapter(model, max_new_tokens=1)
    assert lm.generate_until(requests(lm)) == [interp.generate(model, p, max_new_tokens=1).text for p in prompts]


def test_a_reply_ends_where_the_task_says(installed, asked, model_of):
    model, (requests, documents) = model_of("llava"), asked
    whole = interp.generate(model, model.prepare(documents[0]["image"], documents[0]["text"]), max_new_tokens=4).text
    lm = adapter(model)
    stop = whole[len(whole) // 2]
    assert lm.generate_until(requests(lm, until=stop)[:1]) == [whole[: whole.index(stop)].strip()]


def test_what_a_task_asks_becomes_options_of_generate():
    asked = {
        "max_new_tokens": 16,
        "temperature": 0,
        "top_p": 1.0,
        "num_beams": 1,
        "do_sample": False,
        "image_aspect_ratio": "x",
    }
    assert generate_options(asked) == {"max_new_tokens": 16, "num_beams": 1, "do_sample": False, "stop_strings": []}
    assert generate_options({"do_sample": True})["do_sample"]
    assert not generate_options({})["do_sample"]
    assert generate_options({"temperature": 0.7, "top_p": None, "until": ["\n"]}) == {
        "max_new_tokens": 1024,
        "temperature": 0.7,
        "do_sample": True,
        "stop_strings": ["\n"],
    }


def test_what_it_cannot_do_is_refused(installed, asked, model_of, monkeypatch):
    model, (requests, _) = model_of("llava"), asked
    lm = adapter(model)
    with pytest.raises(NotImplementedError, match="single questions"):
        lm.generate_until_multi_round([])
    with pytest.raises(NotImplementedError, match="choose the generating variant"):
        lm.loglikelihood([])
    video = requests(lm)[0]
    video.args = (*video.args[:2], lambda d: ["clip.mp4"], *video.args[3:])
    with pytest.raises(ValueError, match=r"task passes videos or files by name \('clip.mp4'\)"):
        lm.generate_until([video])
    with pytest.raises(ValueError, match="batch_size is at least 1, got 0"):
        adapter(model, batch_size=0)
    monkeypatch.setitem(sys.modules, "lmms_eval.api.model", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "interp\[lmms\]"'):
        adapter(model)
