"""What an analysis must do before its results can be trusted: the checks behind `interp.testing.check_analysis`.

One function per property; its docstring states the property. `ANALYSIS` lists the checks in the order in which they run, and
`check_analysis_trial` runs them. A check fails by raising an error that says what is wrong.
"""

import importlib.util
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from torch.testing import assert_close

from interp.analysis.base import Analysis, on_capture, select_rows
from interp.analysis.reduction import arrays
from interp.checks.base import Check, run_checks
from interp.data.prompt import CAPTURE_AXES, Capture, Prompt
from interp.data.result import AXES as AXIS_NAMES
from interp.data.result import Result
from interp.data.tokens import EVERY, Segment
from interp.models.model import Model
from interp.passes.capture import capture
from interp.passes.measure import measure
from interp.passes.target import Position, Target


@final
@dataclass(frozen=True, eq=False)
class AnalysisTrial:
    """An analysis under test, with the model and the conversations it is tried on.

    Args:
        model: the model.
        prompts: two or more conversations of different lengths, with everything the analysis needs.
        analysis: the analysis.
        target: what gradients are of, where the analysis needs those of one target.
    """

    model: Model
    prompts: tuple[Prompt, ...]
    analysis: Analysis
    target: Target | None = None

    @cached_property
    def results(self) -> tuple[Result, ...]:
        """The result for every prompt, each measured alone while its pass runs."""
        return tuple(self.measured(prompt) for prompt in self.prompts)

    @property
    def result(self) -> Result:
        """The result for the first prompt."""
        return self.results[0]

    @cached_property
    def saved(self) -> Capture:
        """The arrays the analysis declares, of the first prompt, written to a file and read again."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "capture.safetensors"
            of = {"target": self.target, "gradient": self.analysis.gradient} if self.analysis.grad else {}
            sites: dict[str, Any] = {"want": self.analysis.want, "grad": self.analysis.grad, **of}
            capture(self.model, self.prompts[0], queries=EVERY, **sites).save(path)
            stored = Capture.load(path)
            return replace(stored, arrays={n: stored[n] for n in arrays(self.analysis)})

    def measured(self, prompt: Prompt) -> Result:
        """Return the result for one prompt."""
        return measure(self.model, prompt, self.analysis, target=self.target, progress=False)

    def reduced(self, order: Callable[[Iterable[int]], Iterable[int]] = sorted) -> tuple[Result, "list[_Recorded]"]:
        """Return the result for the saved capture, its layers reduced in some order, and what was read of each layer."""
        kept, read = self.saved, []
        view = replace(self.model.view(self.prompts[0]), queries=kept.queries)
        rows, view = view.for_rows(self.analysis.rows)
        partials: Mapping[int, Any] = {}
        for layer in order(kept.layers):
            here, index = replace(view, layer=layer), kept.layers.index(layer)
            values = _Recorded(select_rows({n: a[index].clone() for n, a in kept.arrays.items()}, rows))
            partials = self.analysis.join({**partials, layer: self.analysis.reduce(values, here)}, here)
            read.append(values)
        return self.analysis.finish(dict(sorted(partials.items())), view), read


class _Recorded(Mapping[str, Tensor]):
    """The arrays of a layer; remembers which were read, which were asked for in vain, and what they held at first."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        self._values = values
        self.before = {n: v.clone() for n, v in values.items()}
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.read.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def changed(self) -> list[str]:
        """Return the arrays that no longer hold what they held."""
        return [n for n, v in self._values.items() if not torch.equal(v.nan_to_num(), self.before[n].nan_to_num())]


def settings_are_frozen(trial: AnalysisTrial) -> None:
    """Settings are given at construction, compare by value, and measuring leaves them alone."""
    analysis = trial.analysis
    if not is_dataclass(analysis) or not type(analysis).__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise AssertionError(f"{type(analysis).__name__} is not a frozen dataclass: @dataclass(frozen=True)")
    copy, described = replace(analysis), repr(analysis)
    if copy != analysis:
        raise AssertionError(f"two equal settings compare as different: {copy} and {analysis}")
    trial.measured(trial.prompts[0])
    if analysis != copy or repr(analysis) != described:
        raise AssertionError(f"measuring changed the settings from {described} to {analysis}")


def sites_are_declared(trial: AnalysisTrial) -> None:
    """Every array it reads is in `want` or `grad`, is a site of a layer, and every declared array is read."""
    declared, known = arrays(trial.analysis), CAPTURE_AXES.keys() - {"logits"}
    unknown = (trial.analysis.want | trial.analysis.grad) - known
    if unknown or not declared:
        raise AssertionError(f"want and grad name sites of a layer ({', '.join(sorted(known))}), got {sorted(unknown)}")
    read = [_read_of_first_layer(trial, backwards) for backwards in (False, True)]
    undeclared, unused = (read[0] | read[1]) - declared, declared - (read[0] & read[1])
    if undeclared:
        raise AssertionError(f"it reads {sorted(undeclared)}, which want and grad do not declare")
    if unused:
        raise AssertionError(
            f"it declares {sorted(unused)} and never reads them: every pass would compute them in vain"
        )


def _read_of_first_layer(trial: AnalysisTrial, backwards: bool) -> frozenset[str]:
    """Return the names of the arrays that are asked for in the first layer.

    A run-time type checker looks at the first array of a mapping too; to tell it from the analysis, the arrays come in either order.
    """
    kept = trial.saved
    view = replace(trial.model.view(trial.prompts[0]), queries=kept.queries)
    rows, view = view.for_rows(trial.analysis.rows)
    values = _Recorded(select_rows({n: kept[n][0] for n in sorted(kept.arrays, reverse=backwards)}, rows))
    try:
        trial.analysis.reduce(values, replace(view, layer=kept.layers[0]))
    except KeyError:
        if values.read <= set(values):
            raise
    return frozenset(values.read)


def result_has_named_axes(trial: AnalysisTrial) -> None:
    """The result is a frozen dataclass whose arrays are named in full: axes of the closed list, as many as the array has, with labels."""
    result = trial.result
    if not isinstance(result, Result) or not type(result).__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise AssertionError(f"finish returns a frozen dataclass with the base Result, got {type(result).__name__}")
    axes = result.axes()
    bare = [
        f.name
        for f in fields(result)  # type: ignore[arg-type]
        if isinstance(getattr(result, f.name), Tensor) and f.name not in axes
    ]
    if bare:
        raise AssertionError(f'{bare} are arrays without named axes: annotate them as Float[Tensor, "layer head"]')
    if result.summary_field() not in axes:
        raise AssertionError(f"summary_field() is {result.summary_field()!r}, but the arrays are {sorted(axes)}")
    labels = getattr(result, "labels", {})
    for name, named in axes.items():
        array = getattr(result, name)
        if array.ndim != len(named) or set(named) - AXIS_NAMES:
            raise AssertionError(f"{name} of shape {tuple(array.shape)} is annotated with the axes {named}")
        if array.requires_grad or array.device.type != "cpu":
            raise AssertionError(f"{name} keeps a graph or lies on {array.device}: reduce returns detached CPU arrays")
        wrong = [a for a, n in zip(named, array.shape, strict=True) if a in labels and len(labels[a]) != n]
        if wrong:
            raise AssertionError(f"the axes {wrong} of {name} have another number of labels than entries")


def result_is_finite(trial: AnalysisTrial) -> None:
    """No array holds infinity, or NaN but where the analysis declares it `undefined`; and never nothing but NaN."""
    _refuse_infinite(trial.result, trial.analysis)
    empty = [n for n in trial.result.axes() if bool(getattr(trial.result, n).isnan().all())]
    if empty:
        raise AssertionError(f"{empty} hold nothing but NaN")


def _refuse_infinite(result: Result, analysis: Analysis) -> None:
    for name in result.axes():
        array = getattr(result, name)
        if not array.numel():
            raise AssertionError(f"{name} is empty: {tuple(array.shape)}")
        missing = array.isnan()
        if bool(missing.any()) and name not in analysis.undefined:
            raise AssertionError(f"{name} holds {int(missing.sum())} NaN of {array.numel()}: see Analysis.undefined")
        if bool(array.isinf().any()):
            raise AssertionError(f"{name} holds infinity")


def capture_equals_pass(trial: AnalysisTrial) -> None:
    """A saved capture gives the numbers of a running pass."""
    view = trial.model.view(trial.prompts[0])
    _same(on_capture(trial.analysis, trial.saved, view=view), trial.result)


def layers_in_either_order(trial: AnalysisTrial) -> None:
    """Layers that arrive first to last, as in a forward pass, or last to first, as in a backward pass, give the same result."""
    upwards, downwards = (trial.reduced(order)[0] for order in (sorted, lambda x: sorted(x, reverse=True)))
    _same(upwards, trial.result)
    _same(downwards, trial.result)


def inputs_are_kept(trial: AnalysisTrial) -> None:
    """The arrays of a layer are as before when it has been reduced; other analyses read the same ones."""
    changed = sorted({name for values in trial.reduced()[1] for name in values.changed()})
    if changed:
        raise AssertionError(f"reduce overwrites {changed}, which other analyses of the same pass read too")


def repeated_is_equal(trial: AnalysisTrial) -> None:
    """The same conversation gives the same numbers again, also after another one: nothing is remembered."""
    first = trial.results[0]  # measured before the others
    _same(trial.measured(trial.prompts[0]), first, exact=True)


def several_prompts(trial: AnalysisTrial) -> None:
    """Several conversations give one result each, those of each alone, and stack to a `sample` axis."""
    results = measure(trial.model, trial.prompts, trial.analysis, target=trial.target, progress=False)
    if results.failed:
        raise AssertionError(f"prompt {results.failed[0].sample} cannot be measured: {results.failed[0].reason}")
    for together, alone in zip(results, trial.results, strict=True):
        _same(together, alone, exact=True)
    for name in trial.result.axes():
        results.stack(name)
    if "sample" not in results.frame() or not results._repr_html_():
        raise AssertionError("the results of several prompts have no `sample` column")


def saved_is_equal(trial: AnalysisTrial) -> None:
    """A result that is saved and loaded is equal, array for array and field for field."""
    with tempfile.TemporaryDirectory() as folder:
        loaded = type(trial.result).load(trial.result.save(Path(folder) / "result.safetensors"))
    _same(loaded, trial.result, exact=True)


def tables_and_pictures_of_text(trial: AnalysisTrial) -> None:
    """`frame()` has one row per entry of each array; `to_xarray()`, `repr` and the HTML of a notebook work."""
    result, kind = trial.result, type(trial.result).__name__
    for name, axes in result.axes().items():
        frame, entries = result.frame(name), getattr(result, name).numel()
        if list(frame.columns) != [*axes, "value"] or len(frame) != entries:
            raise AssertionError(f"frame({name!r}) has {len(frame)} rows of {list(frame.columns)}, not {entries}")
    if importlib.util.find_spec("xarray") is not None and set(result.to_xarray().data_vars) != set(result.axes()):
        raise AssertionError("to_xarray() leaves arrays out")
    if kind not in repr(result) or kind not in result._repr_html_():
        raise AssertionError(f"repr and HTML name the kind of the result, {kind}")


def missing_rows_are_refused(trial: AnalysisTrial) -> None:
    """A conversation without a reply, or without an image, gives a finite result or an error that says what is missing."""
    for what, prompt in _lesser(trial).items():
        target = trial.target
        if isinstance(target, int) and "reply" in what:
            target = Position(len(prompt), prompt.ids[-1])
        try:
            result = measure(trial.model, prompt, trial.analysis, target=target, progress=False)
        except Exception as error:
            if not _on_purpose(error):
                raise AssertionError(
                    f"a conversation {what} needs an error that says so, got {type(error).__name__}: {error}"
                ) from error
        else:
            _refuse_infinite(result, trial.analysis)


def _lesser(trial: AnalysisTrial) -> dict[str, Prompt]:
    """Return the first conversation with one part missing, by what is missing."""
    prompt = trial.prompts[0]
    lesser = {}
    if prompt.response_ids:
        marks = {
            n: [p for p in at if p < len(prompt) - len(prompt.response_ids)] for n, at in prompt.layout.marks.items()
        }
        lesser["without a reply"] = prompt.again(replace(prompt.request, response=None)).marked(**marks)
    if prompt.images and not trial.model.needs_image:
        lesser["without an image"] = prompt.without(Segment.IMAGE).marked(sink=(0,))
    return lesser


def _on_purpose(error: Exception) -> bool:
    """Return whether an error was raised by a `raise` statement, with a sentence; one of torch or of the interpreter is not."""
    line = traceback.extract_tb(error.__traceback__)[-1].line or "raise"  # without source (a notebook) assume the best
    return isinstance(error, ValueError | LookupError) and line.startswith("raise") and len(str(error)) > 20


def _same(got: Result, expected: Result, *, exact: bool = False) -> None:
    """Refuse two results that differ in an array, beyond rounding where not exact, or in another field."""
    for field in fields(expected):  # type: ignore[arg-type]
        one, other = getattr(got, field.name), getattr(expected, field.name)
        if isinstance(other, Tensor):
            bounds = {"rtol": 0, "atol": 0} if exact or not other.is_floating_point() else {"rtol": 1e-4, "atol": 1e-6}
            try:
                assert_close(one, other, equal_nan=True, **bounds)
            except AssertionError as error:
                raise AssertionError(f"{field.name}: {error}") from error
        elif one != other:
            raise AssertionError(f"{field.name} is {one!r}, expected {other!r}")


ANALYSIS: dict[str, Callable[[AnalysisTrial], None]] = {
    "frozen settings": settings_are_frozen,
    "declared sites": sites_are_declared,
    "named axes": result_has_named_axes,
    "finite": result_is_finite,
    "capture = pass": capture_equals_pass,
    "order of layers": layers_in_either_order,
    "inputs kept": inputs_are_kept,
    "repeatable": repeated_is_equal,
    "several prompts": several_prompts,
    "saved = loaded": saved_is_equal,
    "tables": tables_and_pictures_of_text,
    "missing rows": missing_rows_are_refused,
}
"""The checks of an analysis, by name."""


def check_analysis_trial(trial: AnalysisTrial) -> list[Check]:
    """Run every check; one that fails carries the reason."""
    return run_checks(ANALYSIS, trial)
