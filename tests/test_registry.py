"""Things that are named in words."""

import pytest

from interp.bench.base import parse_benchmark as benchmark
from interp.interventions.method import Together
from interp.interventions.method import parse_method as method
from interp.methods.locore import Locore
from interp.methods.spear import Spear
from interp.registry import parse, split_list


@pytest.mark.parametrize(
    ("text", "things"),
    [
        ("greedy,vaf,spear", ["greedy", "vaf", "spear"]),
        ("greedy,vaf:enhance=1.3,mode=abs,spear", ["greedy", "vaf:enhance=1.3,mode=abs", "spear"]),
        ('pope:data="a,b.json",parser=vcd, chair', ['pope:data="a,b.json",parser=vcd', "chair"]),
        ("vaf:layers=[1, 2],mode=abs", ["vaf:layers=[1, 2],mode=abs"]),
        ("", []),
    ],
)
def test_a_list_in_words(text, things) -> None:
    assert split_list(text) == things


def test_settings_are_json_and_else_words() -> None:
    assert parse('x:a=1.5,b=[1,2],c=true,d=some words,e="1"') == (
        "x",
        {"a": 1.5, "b": [1, 2], "c": True, "d": "some words", "e": "1"},
    )


def test_methods_are_spoken_together() -> None:
    assert method("spear:enhance=1e+1+locore") == Together((Spear(enhance=10.0), Locore()))


def test_whole_numbers_become_floats_where_floats_are_wanted() -> None:
    assert repr(method("spear:enhance=2").settings()["enhance"]) == "2.0"


def test_a_setting_without_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match="a setting is written NAME=VALUE, got 'enhance' in 'vaf:enhance'"):
        method("vaf:enhance")


def test_a_benchmark_is_spoken() -> None:
    assert benchmark("steps:n=3,split=test").settings()["n"] == 3
    with pytest.raises(ValueError, match=r"no benchmark 'stepz' \(did you mean steps\?\)"):
        benchmark("stepz")
