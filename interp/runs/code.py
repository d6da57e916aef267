"""What code does, as a hash: from its instructions, so that it is known in a notebook too, wherever it lies and however it is laid out."""

import dis
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cached_property, partial
from inspect import getattr_static
from types import CodeType, FunctionType
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor

_COMPARISONS: Final = ("__repr__", "__eq__", "__hash__", "__setattr__", "__delattr__", "__replace__")
"""Methods of a dataclass that no reply hangs on."""
_METHODS: Final = (FunctionType, classmethod, staticmethod, property)
"""What a class does under a name with two underscores; other such names describe it."""


def code_hash(kind: type) -> str:
    """Return the hash of what a class does, with the functions, classes and constants of its own package that it names.

    Comments, names of files, numbers of lines and annotations do not count. Of what lies elsewhere the name counts, and of objects
    that hold more than data their class. Another version of Python may have another hash for the same code.
    """
    told = _Reader(_package(kind), set()).told(kind)
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


@final
class _Reader:
    """What is read once is not read again, so that code may name itself."""

    def __init__(self, package: str, seen: set[int]) -> None:
        self.package, self.seen = package, seen

    def told(self, value: Any) -> Any:  # noqa: PLR0911  # one line a kind
        """Return a value as plain data."""
        if isinstance(value, (type, FunctionType)):
            return self._named(value)
        if isinstance(value, CodeType):
            return self._code(value)
        if isinstance(value, property):
            return [self.told(f) for f in (value.fget, value.fset, value.fdel)]
        if isinstance(value, partial):
            return [self.told(v) for v in (value.func, value.args, value.keywords)]
        if isinstance(value, (list, tuple)):
            return [type(value).__name__, *map(self.told, value)]
        if isinstance(value, (set, frozenset)):
            return ["set", *sorted(map(self.told, value), key=json.dumps)]
        if isinstance(value, Mapping):
            return [[self.told(n), self.told(v)] for n, v in value.items()]
        if is_dataclass(value):
            return [self.told(type(value)), *(self.told(getattr(value, f.name)) for f in fields(value))]
        return self.told(inside) if isinstance(inside := _inside(value), FunctionType) else _data(value)

    def _named(self, thing: type | FunctionType) -> Any:
        name = f"{thing.__module__}.{thing.__qualname__}"
        if _package(thing) != self.package:
            return name
        if id(thing) in self.seen:
            return thing.__qualname__
        self.seen.add(id(thing))
        return self._function(thing) if isinstance(thing, FunctionType) else self._class(thing)

    def _class(self, kind: type) -> Any:
        skipped = _COMPARISONS if is_dataclass(kind) else ()
        members = {
            n: self.told(v)
            for n, v in sorted(vars(kind).items())
            if n not in skipped and (isinstance(v, _METHODS) or not n.startswith("__"))
        }
        return [[self.told(base) for base in kind.__bases__], members]

    def _function(self, function: FunctionType) -> Any:
        names = sorted(set(_globals(function.__code__)) & set(function.__globals__))
        return {
            "code": self._code(function.__code__),
            "defaults": self.told([function.__defaults__, function.__kwdefaults__]),
            "closure": [self.told(value) for value in _held(function)],
            "globals": {n: self.told(function.__globals__[n]) for n in names},
        }

    def _code(self, code: CodeType) -> Any:
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        constants = [self.told(c) for c in code.co_consts]
        return [code.co_code.hex(), code.co_exceptiontable.hex(), list(counts), [list(n) for n in names], constants]


def tensor_bytes(tensor: Tensor) -> Any:
    """Return what a tensor holds, byte by byte."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _data(value: Any) -> Any:
    """Return what holds nothing but data as plain data; of anything else its kind."""
    if isinstance(value, Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if isinstance(value, Tensor):
        return [str(value.dtype), list(value.shape), hashlib.sha256(tensor_bytes(value)).hexdigest()]
    if isinstance(value, np.ndarray):
        return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    plain = value is None or value is ... or isinstance(value, (bool, int, float, complex, str, bytes))
    return repr(value) if plain else type(value).__qualname__


def _inside(value: Any) -> Any:
    """Return the function that something is made around, if it is: a cache, a method without self."""
    if isinstance(value, cached_property):
        return value.func
    return (
        value.__func__ if isinstance(value, (classmethod, staticmethod)) else getattr_static(value, "__wrapped__", None)
    )


def _package(thing: type | FunctionType) -> str:
    return str(thing.__module__).partition(".")[0]


def _globals(code: CodeType) -> Iterator[str]:
    """Return the global names that code reads, that of the functions in it included."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals(constant)


def _held(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # it is not filled yet
            yield None
