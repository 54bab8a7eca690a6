"""Every public function refuses what its signature does not allow, in one sentence, before it does anything."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ebpf_magic as em
from ebpf_magic import arguments
from ebpf_magic.arguments import checked
from ebpf_magic.bpf_map import Map
from ebpf_magic.errors import UsageError
from ebpf_magic.group import GroupIterator, GroupMap
from ebpf_magic.hosts import vm
from ebpf_magic.iterator import Iterator
from ebpf_magic.session import Maps, Session
from ebpf_magic.variables import Variables

# Public functions, and those of a Session, a Map and their kin, that take anything; but for those that take a frame's
# values, which are looked at where they are packed.
PUBLIC: list[Callable[..., Any]] = [
    em.run, em.load_object, em.map, em.sh, em.probes, em.describe, em.tasks, em.files, em.sockets, em.maps, em.programs,
    em.read_pcap, vm, Session.run, Session.on_end, Map.df, Map.percentiles, Map.update, Map.delete, Map.live, Map.pin,
    Map.contains, Map.lookup, Map.read, Map.inner, Iterator.df, Iterator.text, Iterator.raw, Maps.__getitem__,
    Variables.__getitem__, Variables.__setitem__, GroupMap.df, GroupMap.percentiles, GroupMap.live, GroupIterator.df,
]  # fmt: skip
VALUES: list[Any] = [
    None, 7, -1, 3.5, float("nan"), True, "", "x", b"x", [], ["x"], [7], [None], {}, {"x": 1}, {7: "x"}, (), object(),
    pd.DataFrame(), pd.Series([1]), lambda: 1, np.int64(7), np.float64(0.5), np.array([1]),
]  # fmt: skip
NOTHING = object()


def parameters(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize("function", PUBLIC, ids=lambda function: function.__qualname__)
def test_each_parameter_is_checked(function: Callable[..., Any]) -> None:
    """Not one of its annotations allows an object of no kind, unless it says Any."""
    signature = inspect.signature(function)
    owner = () if "self" not in signature.parameters else (None,)
    for name in parameters(function):
        if "Any" in str(signature.parameters[name].annotation) and "Mapping" not in str(signature.parameters[name]):
            continue
        given = {other: _good(signature.parameters[other]) for other in parameters(function) if other != name}
        with pytest.raises(
            UsageError, match=rf"^call .*\(\) with {name}=<object .*{name} is to be .*\nhelp\("
        ) as caught:
            function(*owner, **{**given, name: NOTHING})
        assert caught.value.what.startswith(f"call {function.__qualname__}()")


def _good(parameter: inspect.Parameter) -> Any:
    """Any value that a parameter takes: its default, or one of a kind that its annotation names first."""
    if parameter.default is not inspect.Parameter.empty:
        return parameter.default
    kind = str(parameter.annotation)
    return {"str": "x", "int": 1, "pd": pd.DataFrame(), "Iterable": [], "Callable": print}.get(
        kind.partition(" ")[0].partition("[")[0].partition(".")[0], "x"
    )


@checked
def taker(
    text: str = "",
    whole: int = 0,
    number: float | None = None,
    flag: bool = False,
    raw: bytes = b"",
    names: Sequence[str] = (),
    numbers: Iterable[float] = (),
    options: Mapping[str, Any] | bool | None = None,
    anything: Any = None,
    call: Callable[[], None] | None = None,
    frame: pd.DataFrame | None = None,
) -> dict[str, Any]:
    return dict(locals())


GOOD: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "whole": lambda value: isinstance(value, (int, np.integer)) and not isinstance(value, bool),
    "number": lambda value: (
        value is None or (isinstance(value, (int, float, np.number)) and not isinstance(value, bool))
    ),
    "flag": lambda value: isinstance(value, bool),
    "raw": lambda value: isinstance(value, bytes),
    "names": lambda value: isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value),
    "options": lambda value: (
        value is None
        or isinstance(value, bool)
        or (isinstance(value, dict) and all(isinstance(key, str) for key in value))
    ),
    "anything": lambda value: True,
    "call": lambda value: value is None or callable(value),
    "frame": lambda value: value is None or isinstance(value, pd.DataFrame),
}


@given(st.sampled_from(sorted(GOOD)), st.sampled_from(range(len(VALUES))))
def test_what_is_allowed_goes_through_and_nothing_else(name: str, which: int) -> None:
    value = VALUES[which]
    if GOOD[name](value):
        assert name in taker(**{name: value})
    else:
        with pytest.raises(UsageError, match=f"{name} is to be "):
            taker(**{name: value})


def test_numbers_of_a_frame_become_plain_ones() -> None:
    frame = pd.DataFrame({"id": np.array([42], "uint32"), "share": [0.5]})
    taken = taker(whole=frame["id"].iloc[0], number=frame["share"].iloc[0], numbers=frame["share"])
    assert [type(taken[name]) for name in ("whole", "number")] == [int, float]
    assert taken["numbers"] == [0.5]
    assert type(taker(raw=bytearray(b"x"))["raw"]) is bytes


def test_it_says_what_it_takes() -> None:
    with pytest.raises(UsageError) as caught:
        em.run("x", on=None)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "call run() with on=None: on is to be a text, a host or a list of texts or hosts\nhelp(run) says what it takes."
    )
    with pytest.raises(UsageError, match=r"on is to be a text\n"):
        em.probes("*", on=["local", "vm"])  # type: ignore[arg-type]


def test_a_long_value_is_shown_in_part() -> None:
    with pytest.raises(UsageError) as caught:
        em.probes(["x"] * 1000)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 250


def test_a_checked_function_is_as_it_was() -> None:
    assert taker.__name__ == "taker"
    assert next(iter(inspect.signature(taker).parameters)) == "text"
    with pytest.raises(TypeError, match="missing a required argument: 'source'"):
        em.run()  # type: ignore[call-arg]
    assert arguments.checked.__doc__
