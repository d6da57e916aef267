from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.base import Analysis, View
from interp.analysis.reduction import Reduction
from interp.data.layout import Layout
from interp.data.result import Result
from interp.data.tokens import EMITTING, EVERY, LAST, Segment, Selector
from interp.interventions.function import Apply
from interp.passes.measure import measure

LAYOUT = Layout(torch.tensor([Segment.USER.value] * 3 + [Segment.RESPONSE.value] * 2))
VIEW = View(LAYOUT, tuple("abcde"), (1, 2, 3, 4, 5), queries=(0, 1, 2, 3, 4))


@dataclass(frozen=True)
class Seen(Result):
    """What an analysis was given."""

    pattern: Float[Tensor, "layer query key"]
    layers: tuple[int, ...]

    @classmethod
    def summary_field(cls) -> str:
        """Return the only one."""
        return "pattern"


@dataclass(frozen=True)
class See(Analysis):
    """Keep the first head's rows."""

    queries: Selector = EVERY
    want: ClassVar[frozenset[str]] = frozenset({"pattern"})

    @property
    def rows(self) -> Selector:
        """The rows."""
        return self.queries

    def reduce(self, values: Mapping[str, Tensor], view: View) -> Tensor:
        """Return the first head's."""
        assert values["pattern"].shape[1] == len(view.queries)
        return values["pattern"][0].clone()

    def finish(self, partials: Mapping[int, Any], view: View) -> Seen:
        """Stack the layers."""
        return Seen(torch.stack(list(partials.values())), tuple(partials))


def test_each_analysis_gets_its_own_rows_in_the_order_of_layers() -> None:
    layers = torch.rand(2, 1, 5, 5)
    reduction = Reduction([See(), See(EMITTING), See([3, 1])], VIEW)
    for layer in (1, 0):
        reduction.take("pattern", layer, layers[layer], None)
    every, emitting, some = reduction.results()
    assert every.layers == (0, 1)
    torch.testing.assert_close(every.pattern, layers[:, 0])
    torch.testing.assert_close(emitting.pattern, layers[:, 0, 2:])
    torch.testing.assert_close(some.pattern, layers[:, 0, [1, 3]])


def test_only_the_rows_that_are_read_are_held() -> None:
    @dataclass(frozen=True)
    class Late(See):
        want: ClassVar[frozenset[str]] = frozenset({"pattern", "z"})

    reduction = Reduction([Late(LAST)], VIEW)
    reduction.take("pattern", 0, torch.rand(1, 5, 5), None)
    assert reduction._waiting[0]["pattern"].untyped_storage().nbytes() == 5 * 4
    reduction.take("z", 0, torch.rand(5, 1, 2), None)
    assert not reduction._waiting


def test_rows_that_will_not_come_are_refused() -> None:
    with pytest.raises(ValueError, match=r"query rows \[0, 1, 2, 3\] are needed .* but were not captured"):
        Reduction([See()], View(LAYOUT, tuple("abcde"), (1, 2, 3, 4, 5), queries=(4,)))


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "NaN"), (float("inf"), "infinity")])
def test_numbers_that_are_none_are_named_while_measuring(model_of, value: float, kind: str) -> None:
    model = model_of("llama")
    change = Apply("pattern", lambda x, here: x + value, layers=[1])
    with pytest.raises(FloatingPointError, match=f"{kind} in pattern of layer 1; try dtype='float32'"):
        measure(model, model.prepare(text="What is it?"), See(), interventions=[change])
