"""Every check of analyses fails on an analysis that deserves it, and names what is wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.base import Analysis, View
from interp.checks.analysis import ANALYSIS
from interp.data.result import Result
from interp.data.tokens import Segment
from interp.testing.analyses import analysis_trial, check_analysis


@final
@dataclass(frozen=True)
class Mass(Result):
    mass: Float[Tensor, "layer head"]
    layers: tuple[int, ...]
    extra: Any = None

    @classmethod
    def summary_field(cls) -> str:
        return "mass"


@dataclass(frozen=True)
class ImageMass(Analysis):
    """The analysis that every fault is put into: the attention of the last row on the image, by head."""

    want: ClassVar[frozenset[str]] = frozenset({"pattern"})

    def reduce(self, values: Mapping[str, Tensor], view: View) -> Any:
        return values["pattern"][:, -1, view.layout.mask(Segment.IMAGE)].sum(-1)

    def finish(self, partials: Mapping[int, Any], view: View) -> Any:
        return Mass(torch.stack(list(partials.values())), tuple(partials))


def mass(values: Mapping[str, Tensor]) -> Tensor:
    return values["pattern"][:, -1].max(-1).values


@dataclass
class NotFrozen(Analysis):
    count: int = 0
    want: ClassVar[frozenset[str]] = frozenset({"pattern"})

    def reduce(self, values, view):
        self.count += 1
        return mass(values)

    finish = ImageMass.finish


@dataclass(frozen=True)
class RemembersInSettings(ImageMass):
    seen: tuple[int, ...] = ()

    def reduce(self, values, view):
        object.__setattr__(self, "seen", (*self.seen, view.layer))
        return mass(values)


class Undeclared(ImageMass):
    def reduce(self, values, view):
        return mass(values) + values["v"].mean()


class UndeclaredUnnoticed(ImageMass):
    def reduce(self, values, view):
        return mass(values) + (values.get("v") is None)


class DeclaredInVain(ImageMass):
    want: ClassVar[frozenset[str]] = frozenset({"pattern", "q"})


class NoSite(ImageMass):
    want: ClassVar[frozenset[str]] = frozenset({"pattern", "logits"})


@dataclass(frozen=True)
class Bare(Result):
    mass: Float[Tensor, "layer head"]
    again: Tensor

    @classmethod
    def summary_field(cls) -> str:
        return "mass"


class BareArray(ImageMass):
    def finish(self, partials, view):
        found = torch.stack(list(partials.values()))
        return Bare(found, found)


class WrongAxes(ImageMass):
    def finish(self, partials, view):
        return Mass(torch.stack(list(partials.values()))[0], tuple(partials))


@dataclass(frozen=True)
class Mislabelled(Result):
    mass: Float[Tensor, "layer head"]
    labels: ClassVar[dict[str, list]] = {"layer": [0]}

    @classmethod
    def summary_field(cls) -> str:
        return "mass"


class TooFewLabels(ImageMass):
    def finish(self, partials, view):
        return Mislabelled(torch.stack(list(partials.values())))


class KeepsTheGraph(ImageMass):
    def reduce(self, values, view):
        return mass(values).requires_grad_()


class NotANumber(ImageMass):
    def reduce(self, values, view):
        return torch.where(torch.arange(len(values["pattern"])) == 0, torch.nan, mass(values))


class NothingButNaN(ImageMass):
    undefined: ClassVar[frozenset[str]] = frozenset({"mass"})

    def reduce(self, values, view):
        return mass(values) * torch.nan


class Infinite(ImageMass):
    def reduce(self, values, view):
        return mass(values) / 0


class SumsUpwards(ImageMass):
    def join(self, partials, view):
        total = sum(partials.values())
        return {**partials, view.layer: total}


class Overwrites(ImageMass):
    def reduce(self, values, view):
        return values["pattern"].mul_(2)[:, -1].max(-1).values


class Counts(ImageMass):
    calls: ClassVar[list[int]] = []

    def reduce(self, values, view):
        self.calls.append(view.layer)
        return mass(values) + len(self.calls)


class ShortConversationsOnly(ImageMass):
    def reduce(self, values, view):
        if "dogs" in "".join(view.words):
            raise ValueError("this conversation is too long for this analysis")
        return mass(values)


class LosesAKey(ImageMass):
    def finish(self, partials, view):
        return Mass(torch.stack(list(partials.values())), tuple(partials), {0: "a key of JSON is a text"})


@dataclass(frozen=True)
class NamedLikeItsAxis(Result):
    head: Float[Tensor, "layer head"]

    @classmethod
    def summary_field(cls) -> str:
        return "head"


class NoDataset(ImageMass):
    def finish(self, partials, view):
        return NamedLikeItsAxis(torch.stack(list(partials.values())))


class FirstWordOfTheReply(ImageMass):
    def reduce(self, values, view):
        return values["pattern"][:, view.layout.positions(Segment.RESPONSE)[0]].max(-1).values


@pytest.mark.parametrize(
    ("fault", "check", "said"),
    [
        (NotFrozen, "frozen settings", "NotFrozen is not a frozen dataclass"),
        (RemembersInSettings, "frozen settings", r"changed the settings from RemembersInSettings\(\)"),
        (Undeclared, "declared sites", r"reads \['v'\], which want and grad do not declare"),
        (UndeclaredUnnoticed, "declared sites", r"reads \['v'\], which want and grad do not declare"),
        (DeclaredInVain, "declared sites", r"declares \['q'\] and never reads them"),
        (NoSite, "declared sites", r"name sites of a layer .* got \['logits'\]"),
        (BareArray, "named axes", r"\['again'\] are arrays without named axes"),
        (WrongAxes, "named axes", r"mass of shape \(4,\) is annotated with the axes"),
        (TooFewLabels, "named axes", r"axes \['layer'\] of mass have another number of labels"),
        (KeepsTheGraph, "named axes", "mass keeps a graph"),
        (NotANumber, "finite", "mass holds 2 NaN of 8: see Analysis.undefined"),
        (NothingButNaN, "finite", r"\['mass'\] hold nothing but NaN"),
        (Infinite, "finite", "mass holds infinity"),
        (Counts, "capture = pass", "mass: Tensor-likes are not close"),
        (SumsUpwards, "order of layers", "mass: Tensor-likes are not close"),
        (Overwrites, "inputs kept", r"overwrites \['pattern'\]"),
        (Counts, "repeatable", "mass: Tensor-likes are not equal"),
        (
            ShortConversationsOnly,
            "several prompts",
            "prompt 1 cannot be measured: ValueError: this conversation is too",
        ),
        (LosesAKey, "saved = loaded", r"extra is \{'0': 'a key of JSON is a text'\}"),
        (NoDataset, "tables", "variables {'head'} are found in both data_vars and coords"),
        (
            FirstWordOfTheReply,
            "missing rows",
            "a conversation without a reply needs an error that says so, got IndexError",
        ),
    ],
    ids=lambda x: x.__name__ if isinstance(x, type) else "",
)
def test_a_fault_is_noticed(model_of, fault, check, said):
    trial = analysis_trial(model_of("llava"), fault())
    with pytest.raises((AssertionError, ValueError), match=said):
        ANALYSIS[check](trial)


def test_a_check_that_fails_says_why(model_of):
    failed = {c.name: c.detail for c in check_analysis(model_of("llava"), Infinite()) if not c.passed}
    assert failed == {
        "finite": "AssertionError: mass holds infinity",
        "missing rows": "AssertionError: mass holds infinity",
    }


def test_without_a_fault_every_check_passes(model_of):
    done = check_analysis(model_of("llava"), ImageMass())
    assert {c.name: c.detail for c in done if not c.passed} == {}
    assert [c.name for c in done] == list(ANALYSIS)


def test_the_faults_cover_every_check():
    (marks,) = [m for m in test_a_fault_is_noticed.pytestmark if m.name == "parametrize"]
    assert {check for _, check, _ in marks.args[1]} == set(ANALYSIS)


def test_one_conversation_is_too_few(model_of, picture):
    model = model_of("llava")
    with pytest.raises(ValueError, match="give at least two, got 1"):
        check_analysis(model, ImageMass(), [model.prepare(picture(), "What?")])
