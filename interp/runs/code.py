"""`code_hash`: what a class of your own does, as a hash, so that a run under changed code is another run.

The hash is made from the compiled code, not from the source text: the source file may have been edited since it was imported, and a
cell of a notebook, or code that was typed in, may have none. It follows the names in the code into the class's own package.
"""

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
"""Generated methods of a dataclass that cannot change a reply, and differ between versions of Python."""


def code_hash(kind: type) -> str:
    """Return the hash of the code of a class, with the functions, classes and constants of its own package that it names.

    Comments, annotations, file names and line numbers do not count. Of other packages only the name counts, and of objects that hold
    more than data only their class. Another version of Python may give another hash for the same code.
    """
    content = _Walk(_package(kind), set()).describe(kind)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@final
class _Walk:
    """One walk over code; what was visited is not visited again, because functions and classes may name themselves."""

    def __init__(self, package: str, seen: set[int]) -> None:
        self.package, self.seen = package, seen

    def describe(self, value: Any) -> Any:
        """Return a value as JSON data."""
        if isinstance(value, (type, FunctionType)):
            if _package(value) != self.package:
                return f"{value.__module__}.{value.__qualname__}"
            if id(value) in self.seen:
                return value.__qualname__
            self.seen.add(id(value))
            return self._function(value) if isinstance(value, FunctionType) else self._class(value)
        return self._code(value) if isinstance(value, CodeType) else self._value(value)

    def _value(self, value: Any) -> Any:  # noqa: PLR0911  # one line per kind of value
        match value:
            case property():
                return [self.describe(f) for f in (value.fget, value.fset, value.fdel)]
            case partial():
                return [self.describe(v) for v in (value.func, value.args, value.keywords)]
            case list() | tuple():
                return [type(value).__name__, *map(self.describe, value)]
            case set() | frozenset():  # their order differs from process to process
                return ["set", *sorted(map(self.describe, value), key=json.dumps)]
            case Mapping():
                return [[self.describe(n), self.describe(v)] for n, v in value.items()]
        if is_dataclass(value):
            return [self.describe(type(value)), *(self.describe(getattr(value, f.name)) for f in fields(value))]
        wrapped = _wrapped(value)
        return self.describe(wrapped) if isinstance(wrapped, FunctionType) else _data(value)

    def _class(self, kind: type) -> Any:
        skipped = _COMPARISONS if is_dataclass(kind) else ()
        acting = (FunctionType, classmethod, staticmethod, property)
        # Other names with two underscores (__module__, __doc__, __annotations__) describe the class and change nothing.
        members = {
            n: self.describe(v)
            for n, v in sorted(vars(kind).items())
            if n not in skipped and (isinstance(v, acting) or not n.startswith("__"))
        }
        return [[self.describe(base) for base in kind.__bases__], members]

    def _function(self, function: FunctionType) -> Any:
        names = sorted(set(_global_names(function.__code__)) & set(function.__globals__))
        return {
            "code": self._code(function.__code__),
            "defaults": self.describe([function.__defaults__, function.__kwdefaults__]),
            "closure": [self.describe(value) for value in _closure(function)],
            "globals": {n: self.describe(function.__globals__[n]) for n in names},
        }

    def _code(self, code: CodeType) -> Any:
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        constants = [self.describe(c) for c in code.co_consts]
        return [code.co_code.hex(), code.co_exceptiontable.hex(), list(counts), [list(n) for n in names], constants]


def tensor_bytes(tensor: Tensor) -> Any:
    """Return the bytes of a tensor."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _data(value: Any) -> Any:
    """Return a value that holds only data as JSON data; of any other value its class."""
    if isinstance(value, Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if isinstance(value, (Tensor, np.ndarray)):
        content = tensor_bytes(value) if isinstance(value, Tensor) else value.tobytes()
        return [str(value.dtype), list(value.shape), hashlib.sha256(content).hexdigest()]
    plain = value is None or value is ... or isinstance(value, (bool, int, float, complex, str, bytes))
    return repr(value) if plain else type(value).__qualname__


def _wrapped(value: Any) -> Any:
    """Return the function that a cached property, a cache, a class method or a static method wraps."""
    if isinstance(value, cached_property):
        return value.func
    return (
        value.__func__ if isinstance(value, (classmethod, staticmethod)) else getattr_static(value, "__wrapped__", None)
    )


def _package(thing: type | FunctionType) -> str:
    return str(thing.__module__).partition(".")[0]


def _global_names(code: CodeType) -> Iterator[str]:
    """Return the global names that code reads, including the code of functions within it."""
    # From the instructions: `co_names` also holds attributes, and a global of the same name as an attribute would count.
    yield from (i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _closure(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # an empty cell: the variable has no value yet
            yield None
