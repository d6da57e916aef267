"""What an analysis returns: arrays with named axes that can be tabulated, labelled and saved."""

import abc
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor

from interp.data.short_repr import set_short_repr
from interp.data.storage import StoredArrays, save_arrays

if TYPE_CHECKING:
    import xarray

AXES = frozenset(
    "layer depth head kv_head query key token dim head_dim vocab tile row col image sample step segment candidate".split()  # noqa: SIM905  # easier to read
)
"""Every name an axis of a result may have."""


class Result(abc.ABC):
    """The base of all results: frozen dataclasses of arrays, whose axis names are written once, in the annotation of each field.

    A field `labels`, where there is one, maps an axis name to the labels of its entries.
    """

    def __init_subclass__(cls) -> None:
        """Refuse axis names that are not in the list.

        Raises:
            TypeError: an unknown name.
        """
        set_short_repr(cls)
        named = {a for t in cls.__annotations__.values() for a in getattr(t, "dim_str", "").split()}
        if named - AXES:
            raise TypeError(f"{cls.__name__} names axes {sorted(named - AXES)}; axis names are {sorted(AXES)}")

    @classmethod
    @abc.abstractmethod
    def summary_field(cls) -> str:
        """Return the name of the array that `frame()` shows when none is named."""

    @classmethod
    def axes(cls) -> dict[str, tuple[str, ...]]:
        """Return the axis names of every array field, by field."""
        named = {f.name: getattr(f.type, "dim_str", None) for f in fields(cls)}  # type: ignore[arg-type]
        return {name: tuple(text.split()) for name, text in named.items() if text is not None}

    def frame(self, name: str | None = None) -> pd.DataFrame:
        """Return one array as a tidy table: a column per axis, and `value`.

        Raises:
            KeyError: there is no such array; lists those there are.
        """
        name = name or self.summary_field()
        axes = self.axes()
        if name not in axes:
            raise KeyError(f"{type(self).__name__} has no array {name!r}; it has {', '.join(sorted(axes))}")
        array = getattr(self, name)
        index = pd.MultiIndex.from_product(
            [self._labels(a, n) for a, n in zip(axes[name], array.shape, strict=True)], names=axes[name]
        )
        return pd.DataFrame({"value": array.reshape(-1).tolist()}, index=index).reset_index()

    def to_xarray(self) -> "xarray.Dataset":
        """Return all arrays as one labelled dataset.

        Raises:
            ImportError: xarray is not installed.
        """
        try:
            import xarray
        except ImportError as error:
            raise ImportError("to_xarray needs xarray, which is not installed: pip install 'interp[xarray]'") from error
        arrays = {n: (a, getattr(self, n).cpu().numpy()) for n, a in self.axes().items()}
        sizes = {a: s for names, values in arrays.values() for a, s in zip(names, values.shape, strict=True)}
        return xarray.Dataset(arrays, coords={a: self._labels(a, n) for a, n in sizes.items()})

    def save(self, path: str | Path) -> Path:
        """Write the result to one safetensors file, whole or not at all."""
        arrays = {n: getattr(self, n) for n in self.axes()}
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in arrays}  # type: ignore[arg-type]
        return save_arrays(path, arrays, {"what": type(self).__name__, **plain})

    @classmethod
    def load(cls, path: str | Path) -> Any:
        """Read a saved result of this kind.

        Raises:
            ValueError: the file holds another kind.
        """
        stored = StoredArrays(path)
        header = dict(stored.header)
        kind = header.pop("what", None)
        if kind != cls.__name__:
            raise ValueError(f"{path} holds a {kind}, not a {cls.__name__}")
        return cls(**{n: stored[n] for n in cls.axes()}, **{n: _frozen(v) for n, v in header.items()})

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from interp.data import display

        return display.result_card(self)

    def _labels(self, axis: str, size: int) -> list[Any]:
        labels = getattr(self, "labels", {})
        return list(labels[axis]) if axis in labels else list(range(size))


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


def check_finite(values: dict[str, Tensor], layer: int) -> None:
    """Refuse arrays with NaN or infinity in them.

    Raises:
        FloatingPointError: names the site and the layer.
    """
    for site, value in values.items():
        summed = value.sum(
            dtype=torch.promote_types(value.dtype, torch.float32)
        )  # not a number when one of them is none
        if not bool(summed.isfinite()) and not bool(value.isfinite().all()):
            kind = "NaN" if bool(value.isnan().any()) else "infinity"
            raise FloatingPointError(
                f"{kind} in {site} of layer {layer}; try dtype='float32', or look for an intervention that overflows"
            )
