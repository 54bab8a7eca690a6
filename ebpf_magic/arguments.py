"""Arguments held to what a function's signature says, before it does anything: one readable error, whatever was given.

The annotations are read as they stand in the source, so that this costs no import: a class is known by its name.
"""

from __future__ import annotations

import ast
import functools
import inspect
import numbers
import operator
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, ParamSpec, TypeVar

from ebpf_magic.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")

_WORDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
    "bytes": "bytes",
    "None": "None",
    "Callable": "a function",
    "Progress": "a function",
    "OnOutput": "a function",
    "Mapping": "a mapping",
    "PathLike": "a path",
    "DataFrame": "a DataFrame",
    "Series": "a Series",
    "AgentHost": "a host",
}
_LISTS = ("Sequence", "Iterable")
_ANYTHING = ("Any", "object")
_UNCHECKED = (*_ANYTHING, "bytes")  # as elements: packets are many, and are looked at where they are packed
_FUNCTIONS = ("Callable", "Progress", "OnOutput")


class _Kind(NamedTuple):
    """One of the kinds that an argument may be of; `inner` are those of a list's elements or a mapping's keys."""

    name: str
    inner: tuple[_Kind, ...] = ()


class _Wrong(Exception):
    """A value is of none of the kinds that it may be of."""


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Make a public function refuse what its annotations do not allow, with a UsageError that says what it takes.

    Numbers of NumPy become Python's on the way, so that what a frame holds can be handed on.
    """
    signature = inspect.signature(function)
    kinds = {
        name: _kinds(parameter.annotation)
        for name, parameter in signature.parameters.items()
        if isinstance(parameter.annotation, str)
    }

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if name in kinds:
                try:
                    bound.arguments[name] = _plain(value, kinds[name])
                except _Wrong:
                    raise _wrong(function, name, value, kinds[name]) from None
        return function(*bound.args, **bound.kwargs)

    return call


def _wrong(function: Callable[..., object], name: str, value: object, kinds: tuple[_Kind, ...]) -> UsageError:
    shown = " ".join(reprlib.repr(value).split())  # a frame's has lines
    words = [_in_words(kind) for kind in kinds]
    taken = " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    called = function.__qualname__
    what = f"call {called}() with {name}={shown}"
    return UsageError(what, f"{name} is to be {taken}", f"help({called}) says what it takes.")


def _in_words(kind: _Kind) -> str:
    if kind.name not in _LISTS:
        return _WORDS.get(kind.name, f"a {kind.name}")
    elements = [f"{_in_words(each).removeprefix('a ')}s" for each in kind.inner if each.name not in _UNCHECKED]
    return f"a list of {' or '.join(elements)}" if elements else "a list"


def _kinds(annotation: str) -> tuple[_Kind, ...]:
    return _of(ast.parse(annotation, mode="eval").body)


def _of(node: ast.expr) -> tuple[_Kind, ...]:
    if isinstance(node, ast.BinOp):
        return (*_of(node.left), *_of(node.right))
    if isinstance(node, ast.Subscript):
        (kind,) = _of(node.value)
        inner = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) else node.slice
        return (kind._replace(inner=_of(inner)),) if kind.name in (*_LISTS, "Mapping") else (kind,)
    if isinstance(node, ast.Attribute):  # pd.DataFrame
        return (_Kind(node.attr),)
    return (_Kind(node.id if isinstance(node, ast.Name) else "None"),)


def _plain(value: Any, kinds: tuple[_Kind, ...]) -> Any:
    """Give a value as its function takes it; raises `_Wrong`."""
    for kind in kinds:
        try:
            return _as(value, kind)
        except _Wrong:
            continue
    raise _Wrong


def _as(value: Any, kind: _Kind) -> Any:
    """Give a value as one of a kind; raises `_Wrong`."""
    name = kind.name
    if name in _LISTS:
        return _as_list(value, kind)
    if name == "Mapping" and isinstance(value, Mapping):
        return {_plain(key, kind.inner): each for key, each in value.items()}
    if name == "int" and isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return operator.index(value)
    if name == "float" and isinstance(value, numbers.Real) and not isinstance(value, bool):
        return value if isinstance(value, int) else float(value)
    if name == "bytes" and isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if name in ("int", "float", "bytes", "Mapping"):
        raise _Wrong
    is_it = {
        "None": value is None,
        **dict.fromkeys(_FUNCTIONS, callable(value)),
        "PathLike": hasattr(value, "__fspath__"),
    }
    if name in _ANYTHING or is_it.get(name, _is_a(value, name)):
        return value
    raise _Wrong


def _is_a(value: object, name: str) -> bool:
    """Whether a value's class has that name: str, NumPy's bool_, and those that would have to be imported."""
    return any(each.__name__.rstrip("_") == name for each in type(value).__mro__)


def _as_list(value: Any, kind: _Kind) -> Any:
    # A DataFrame can be gone through as well, but what comes is the names of its columns.
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable) or _is_a(value, "DataFrame"):
        raise _Wrong
    if kind.name == "Sequence" and not hasattr(value, "__len__"):
        raise _Wrong
    if all(each.name in _UNCHECKED for each in kind.inner):
        return value
    return [_plain(each, kind.inner) for each in value]
