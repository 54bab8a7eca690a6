"""An agent that lies: whatever it sends, the notebook gets one of our errors or a checked answer, and then a new agent.

A thread plays the agent at the other end of a socket pair.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebpf_magic import opened
from ebpf_magic.agent.wire import Channel
from ebpf_magic.errors import AgentError, AgentTimeoutError, EbpfMagicError, VerifierError
from ebpf_magic.hosts import replies
from ebpf_magic.hosts.base import AgentHost
from ebpf_magic.hosts.handles import MapHandle, WireMap

HELLO: dict[str, Any] = {
    "id": 1,
    "protocol": 1,
    "release": "6.1",
    "machine": "x86_64",
    "arch": "x86",
    "possible_cpus": 2,
    "online_cpus": 2,
    "page_size": 4096,
    "build_id": "00",
    "libbpf": "1.1",
    "uid": 0,
    "pid": 1,
    "capabilities": [],
    "load_problem": "",
    "tracefs_problem": "",
    "shell": True,
}
MAP = {
    "handle": "m1", "name": "counts", "type": "hash", "type_id": 1, "key_size": 4, "value_size": 8,
    "max_entries": 10, "flags": 0, "id": 1, "memory_bytes": 100, "internal": False, "pin": "",
}  # fmt: skip
LOADED = {"programs": [], "maps": [MAP], "open_ns": 1, "load_ns": 1, "notes": []}
SNAPSHOT = {"count": 1, "read": "batch", "began_ns": 1, "ended_ns": 2, "restarts": 0, "key_bytes": 4, "value_bytes": 8}


def frame(header: object, payload: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<4sIQ", b"eBM1", len(text), len(payload)) + text + payload


class FakeLink:
    """The notebook's end of a connection whose other end a test plays; as a VM's, without descriptors."""

    def __init__(self, answers: list[bytes]) -> None:
        self._ours, self._theirs = socket.socketpair()
        self.channel = Channel(read_fd=os.dup(self._ours.fileno()), write_fd=os.dup(self._ours.fileno()))
        self.ended = False
        self._thread = threading.Thread(target=self._answer, args=(answers,), daemon=True)
        self._thread.start()

    def _answer(self, answers: list[bytes]) -> None:
        try:
            for answer in answers:
                if not self._theirs.recv(1 << 16):
                    return
                self._theirs.sendall(answer)
            self._theirs.shutdown(socket.SHUT_WR)
            while self._theirs.recv(1 << 16):
                pass
        except OSError:
            return

    def shutdown(self) -> None:
        try:
            self._ours.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def wait(self, seconds: float) -> bool:
        return True

    def kill(self) -> None:
        self.ended = True

    def ending(self) -> str:
        return "it is gone"

    def last_words(self) -> str:
        return "last words"

    def close(self) -> None:
        self.channel.close()
        self._ours.close()
        self._thread.join(5)
        self._theirs.close()


@contextmanager
def host(*answers: bytes) -> Iterator[AgentHost]:
    """A host whose agent gives these answers, one a request."""
    made = AgentHost("fake", FakeLink([frame(HELLO), *answers]))
    try:
        yield made
    finally:
        made.close()


def numbered(header: dict[str, Any], number: int = 2) -> dict[str, Any]:
    return {"id": number, **header}


def test_an_honest_agent_is_believed() -> None:
    answers = [frame(numbered(LOADED)), frame(numbered(SNAPSHOT, 3), b"k" * 4 + b"v" * 8)]
    with host(*answers) as agent:
        loaded = agent.load(b"", session="s", name="n")
        snapshot = loaded.maps["counts"].read()
        assert (bytes(snapshot.keys), bytes(snapshot.values), snapshot.count) == (b"kkkk", b"vvvvvvvv", 1)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        frame(numbered({}))[:10],
        frame(numbered({"sessions": {}}))[:-3],
        b"eBM2" + frame(numbered({}))[4:],
        b"garbage" * 10,
        struct.pack("<4sIQ", b"eBM1", 1 << 31, 0),
        struct.pack("<4sIQ", b"eBM1", 2, 1 << 63) + b"{}",
        struct.pack("<4sIQ", b"eBM1", 2, 1 << 29) + b"{}short",
        struct.pack("<4sIQ", b"eBM1", 3, 0) + b"\xff\xfe{",
        frame([]),
        frame({"sessions": {}}),
        frame({"id": 7, "sessions": {}}),
        frame({"id": 2.0, "sessions": {}}),
        frame({"id": "2", "sessions": {}}),
        frame(numbered({"sessions": []})),
        frame(numbered({"sessions": {"s": {"state": 3, "reason": "", "message": "", "warnings": []}}})),
        frame(numbered({"sessions": {}, "fds": 3})),
        frame(numbered({"error": "no object"})),
    ],
)
def test_what_is_not_the_protocol_ends_the_agent(answer: bytes) -> None:
    with host(answer) as agent:
        with pytest.raises(AgentError, match="the agent is gone"):
            agent.status()
        assert not agent.alive
        with pytest.raises(AgentError):
            agent.status()


def test_true_is_not_the_first_call() -> None:
    with pytest.raises(AgentError, match="another call"):
        AgentHost("fake", FakeLink([frame({**HELLO, "id": True})]))


@pytest.mark.parametrize("field", [name for name in HELLO if name not in ("id", "capabilities")])
@pytest.mark.parametrize("value", [None, [], {}, 1.5, -1, 1 << 70])
def test_a_false_greeting_is_refused(field: str, value: object) -> None:
    with pytest.raises(AgentError):
        AgentHost("fake", FakeLink([frame({**HELLO, field: value})]))


@pytest.mark.parametrize(
    ("change", "payload"),
    [
        ({"count": 2}, b"k" * 4 + b"v" * 8),
        ({"count": 1 << 60}, b"k" * 4 + b"v" * 8),
        ({"key_bytes": 12, "value_bytes": 0}, b"k" * 12),
        ({"key_bytes": -4, "value_bytes": 16}, b"k" * 12),
        ({"key_bytes": True, "value_bytes": 11}, b"k" * 12),
        ({}, b"k" * 11),
        ({}, b"k" * 13),
    ],
)
def test_entries_that_do_not_fill_their_bytes_are_refused(change: dict[str, Any], payload: bytes) -> None:
    answers = [frame(numbered(LOADED)), frame(numbered({**SNAPSHOT, **change}, 3), payload)]
    with host(*answers) as agent:
        loaded = agent.load(b"", session="s", name="n")
        with pytest.raises(AgentError, match="the agent is gone"):
            loaded.maps["counts"].read()


def test_entries_without_a_byte_cannot_be_many() -> None:
    rows = [{**MAP, "key_size": 0, "value_size": 0}]
    answer = {**SNAPSHOT, "count": 1 << 50, "key_bytes": 0, "value_bytes": 0}
    with host(frame(numbered({**LOADED, "maps": rows})), frame(numbered(answer, 3))) as agent:
        loaded = agent.load(b"", session="s", name="n")
        with pytest.raises(AgentError, match="do not fill 0 bytes of keys"):
            loaded.maps["counts"].read()


@pytest.mark.parametrize("change", [{"key_size": 1 << 40}, {"value_size": -8}, {"type_id": "hash"}, {"name": 3}])
def test_a_map_of_impossible_size_is_refused(change: dict[str, Any]) -> None:
    with host(frame(numbered({**LOADED, "maps": [{**MAP, **change}]}))) as agent, pytest.raises(AgentError):
        agent.load(b"", session="s", name="n")


def test_paths_of_cgroups_are_checked() -> None:
    with host(frame(numbered({}), b"1 /\x0077 /user.slice/a b\0"), frame(numbered({}, 3), b"78 /\xff\0")) as agent:
        assert agent.cgroups() == {1: "/", 77: "/user.slice/a b"}
        assert agent.cgroups() == {78: "/\\xff"}
    for line in (b"x /", b"1", b"1 relative", b"-1 /", b"9" * 30 + b" /", b"18446744073709551616 /", b""):
        with host(frame(numbered({}), line + b"\0")) as agent, pytest.raises(AgentError, match="no id and path"):
            agent.cgroups()


def test_what_is_done_meanwhile_fails_after_the_answer() -> None:
    def fail() -> None:
        raise EbpfMagicError("read the types", "they are wrong")

    refused = {"error": {"kind": "verifier", "what": "load", "why": "no"}}
    answers = [frame(numbered(LOADED)), frame(numbered(refused, 3)), frame(numbered(LOADED, 4))]
    with host(*answers) as agent:
        with pytest.raises(EbpfMagicError, match="read the types"):
            agent.load(b"", session="s", name="n", meanwhile=fail)
        with pytest.raises(VerifierError, match="load"):
            agent.load(b"", session="s", name="n", meanwhile=fail)
        done: list[int] = []
        assert agent.load(b"", session="s", name="n", meanwhile=lambda: done.append(1)).maps["counts"].name == "counts"
        assert done == [1]


OPENED = {"map": MAP, "key_type": 0, "value_type": 0, "btf_problem": ""}


@pytest.mark.parametrize(
    ("answer", "payload"),
    [
        ({**OPENED, "map": {**MAP, "key_size": -1}}, b""),
        ({**OPENED, "map": None}, b""),
        ({**OPENED, "key_type": "u32"}, b""),
        ({"map": MAP}, b""),
    ],
)
def test_a_map_of_others_that_cannot_be_is_refused(answer: dict[str, Any], payload: bytes) -> None:
    with host(frame(numbered(answer), payload)) as agent, pytest.raises(AgentError):
        agent.open_map(1)


@pytest.mark.parametrize("btf", [b"", b"nonsense", b"\x9f\xeb\x01\x00" + bytes(40)])
def test_types_that_are_none_leave_bytes(btf: bytes) -> None:
    answers = [
        frame(numbered({**OPENED, "key_type": 7, "value_type": 9}), btf),
        frame(numbered(SNAPSHOT, 3), b"k" * 12),
    ]
    with host(*answers) as agent:
        found = opened.of_host(agent, 1, "")
        assert found.df()["value"].to_dict() == {b"kkkk": b"kkkkkkkk"}


@pytest.mark.parametrize("payload", [b"", b"v" * 7, b"v" * 9])
def test_a_value_that_was_looked_up_has_its_size(payload: bytes) -> None:
    answers = [frame(numbered({**OPENED, "map": {**MAP, "type": "inode_storage", "type_id": 28}}))]
    with host(*answers, frame(numbered({"found": True}, 3), payload)) as agent:
        found = opened.of_host(agent, 1, "")
        with pytest.raises(AgentError):
            found.lookup("/etc/passwd")


@pytest.mark.parametrize(("kind", "number"), [("task_storage", 29), ("sk_storage", 24)])
def test_names_of_owners_have_their_size(kind: str, number: int) -> None:
    answers = [frame(numbered({**OPENED, "map": {**MAP, "type": kind, "type_id": number}}))]
    odd = {**SNAPSHOT, "read": "owners", "key_bytes": 3}
    with host(*answers, frame(numbered(odd, 3), b"k" * 3 + b"v" * 8)) as agent:
        found = opened.of_host(agent, 1, "")
        with pytest.raises(AgentError, match="do not fill 3 bytes of keys"):
            found.df()


def test_an_announced_payload_costs_nothing_before_it_comes() -> None:
    header = json.dumps(numbered({"sessions": {}})).encode()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with host(struct.pack("<4sIQ", b"eBM1", len(header), 1 << 30) + header + b"x" * 1000) as agent:
        with pytest.raises(AgentError):
            agent.status()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_half_a_character_can_be_shown() -> None:
    error = {"kind": "usage", "what": "a \ud800 b", "why": "\udfff", "near": ["\ud83d"]}
    with host(frame(numbered({"error": error}))) as agent:
        with pytest.raises(EbpfMagicError) as caught:
            agent.status()
        str(caught.value).encode()


def test_an_error_cannot_drive_the_terminal() -> None:
    error = {"kind": "usage", "what": "a\x1b[31mb", "why": "c\x1b]0;title\x07d", "near": ["e\x9b2Jf\r"]}
    with host(frame(numbered({"error": error}), b"log\x1bc\n")) as agent:
        with pytest.raises(EbpfMagicError) as caught:
            agent.status()
        assert str(caught.value) == "ab: c]0;titled (near: ef)"
        assert caught.value.log == "log\n"


def test_silence_has_an_end() -> None:
    ours = FakeLink([frame(HELLO)])
    ours._answer = lambda answers: None  # type: ignore[method-assign]
    agent = AgentHost("fake", ours)
    # The far end is open and says nothing.
    hold = threading.Event()
    agent.deadline_s = 0.2
    agent._link.channel.receive = lambda: hold.wait(5) and None  # type: ignore[method-assign,assignment]
    with pytest.raises(AgentTimeoutError, match=r"no answer within 0\.2 s"):
        agent.status()
    hold.set()
    assert ours.ended
    agent.close()


TEXT = st.text(max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
CALLS: dict[str, Callable[[AgentHost], object]] = {
    "load": lambda agent: agent.load(b"", session="s", name="n"),
    "attach": lambda agent: agent.attach("s"),
    "status": lambda agent: agent.status(),
    "stats": lambda agent: agent.stats("s"),
    "calibrate": lambda agent: agent.calibrate(["xdp"]),
    "log": lambda agent: agent.log("s"),
    "run": lambda agent: agent.run_program("s", "p"),
    "packets": lambda agent: agent.run_packets("s", "p", bytes(4), b""),
    "features": lambda agent: agent.features(),
    "list": lambda agent: agent.list_kernel(),
    "btf": lambda agent: agent.btf(),
    "cgroups": lambda agent: agent.cgroups(),
    "iterate": lambda agent: agent.iterate("s", "p", True),
    "find": lambda agent: agent.find("tracepoint", "*"),
    "format": lambda agent: agent.tracepoint_format("c", "n"),
}
MAP_CALLS: dict[str, Callable[[MapHandle], object]] = {
    "read": lambda handle: handle.read(),
    "update": lambda handle: handle.update(bytes(4), bytes(8), 1),
    "delete": lambda handle: handle.delete(bytes(4), 1),
    "clear": lambda handle: handle.clear(),
    "poke": lambda handle: handle.poke(0, bytes(4)),
    "contains": lambda handle: in_agent(handle).contains(bytes(8), 1),
    "lookup": lambda handle: in_agent(handle).lookup("1"),
    "memory": lambda handle: in_agent(handle).memory(0, 8),
    "pin": lambda handle: in_agent(handle).add_pin("/x"),
    "unpin": lambda handle: in_agent(handle).remove_pin("/x"),
}


def in_agent(handle: MapHandle) -> WireMap:
    assert isinstance(handle, WireMap)
    return handle


def near_miss(shape: Any) -> st.SearchStrategy[Any]:
    """Answers that are nearly right: of the right form with a wrong leaf here and there."""
    if isinstance(shape, str):
        rights = {"text": TEXT, "flag": st.booleans(), "owner": st.just([1, "sh"])}
        right: st.SearchStrategy[Any] = rights.get(shape.rstrip("?"), st.integers(0, 9000))
        return st.integers(0, 9).flatmap(lambda chance: VALUES if chance == 0 else right)
    if isinstance(shape, list):
        return st.lists(near_miss(shape[0]), max_size=2)
    fields = {key.rstrip("?"): near_miss(inner) for key, inner in shape.items() if key != "*"}
    rest = st.dictionaries(TEXT, near_miss(shape["*"]), max_size=2) if "*" in shape else st.just({})
    return st.builds(lambda fixed, more: {**more, **fixed}, st.fixed_dictionaries({}, optional=fields), rest)


@pytest.mark.parametrize("verb", CALLS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_answer_is_checked_or_refused(verb: str, data: st.DataObject) -> None:
    header = data.draw(near_miss(replies._SHAPES.get(verb, {})))
    header = header if isinstance(header, dict) else {"value": header}
    payload = data.draw(st.binary(max_size=40))
    with host(frame(numbered(header), payload)) as agent:
        try:
            CALLS[verb](agent)
        except EbpfMagicError:
            return
        replies.check(verb, header, len(payload))


@pytest.mark.parametrize("verb", MAP_CALLS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_answer_on_a_map_is_checked_or_refused(verb: str, data: st.DataObject) -> None:
    header = data.draw(near_miss(replies._SHAPES.get(verb, {})))
    payload = data.draw(st.binary(max_size=40))
    with host(frame(numbered(LOADED)), frame(numbered(header, 3), payload)) as agent:
        handle = agent.load(b"", session="s", name="n").maps["counts"]
        try:
            MAP_CALLS[verb](handle)
        except EbpfMagicError:
            return
        replies.check(verb, header, len(payload))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_survived(noise: bytes, framed: bool) -> None:
    start = struct.pack("<4sIQ", b"eBM1", min(len(noise), 50), max(len(noise) - 50, 0)) if framed else b""
    with host(start + noise) as agent, pytest.raises(AgentError):
        agent.status()


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["kind", "what", "why", "hint", "near", "errno", "program", "target"]), VALUES))
def test_any_error_is_one_of_ours(error: dict[str, Any]) -> None:
    with host(frame(numbered({"error": error}), b"\xff log")) as agent:
        with pytest.raises(EbpfMagicError) as caught:
            agent.status()
        str(caught.value).encode()
