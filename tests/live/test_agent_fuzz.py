"""Any request, in any order, with any arguments: the agent answers each, goes on, and keeps nothing of it."""

from __future__ import annotations

import collections
import itertools
import json
import os
import random
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rights
from network import wire
from objects import HASH_U64, compile_object, counting, empty, eventually, one_map

from ebpf_magic.agent.wire import HEADER, MAGIC
from ebpf_magic.hosts.base import AgentHost

pytestmark = pytest.mark.live

SEEDS = [int(word) for word in os.environ.get("EBPF_MAGIC_FUZZ_SEEDS", "1 2 3").split()]
REQUESTS = int(os.environ.get("EBPF_MAGIC_FUZZ_REQUESTS", "1000"))
INTERFACE = "em-fz0"
TARGETS = [
    "syscalls/sys_enter_getppid", "sys_enter", "cpu-clock:99hz", "cpu-clock:0hz", f"xdp:{INTERFACE}",
    f"tc:{INTERFACE}:ingress", f"tc:{INTERFACE}:egress:9", f"tc:{INTERFACE}:ingress:99999", "libc.so.6:getpid",
    "libc.so.6:getp?id", "/dev/zero:main", "/proc/self/mem:main", "/proc/kcore:main", "/etc/passwd:main", "/:main",
    "cgroup:/", "cgroup:../../..", "netns:self", "xdp:nowhere", "map:m", "%s%n", "", ":", "\0", "ä:ö", "9" * 4000,
]  # fmt: skip
NOISE: list[Any] = [
    None, True, False, 0, 1, -1, 2, 7, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, 0.5, -0.5,
    1e300, "", "x", "m1", "*", "[", "x" * 5000, "\ud800", [], [1], ["x"], ["\0"], {}, {"a": 1}, {"probe": "\0"},
]  # fmt: skip
VERBS = """
read update delete clear poke open release pin unpin lookup contains memory btf detach status stats calibrate fill log
run packets cgroups iterate find format
""".split()
GETPPID = "tracepoint/syscalls/sys_enter_getppid"


def objects(chance: random.Random) -> list[bytes]:
    """Objects of many kinds, and what is none."""
    every_map = one_map(HASH_U64.format(8))
    printing = 'SEC("tp/syscalls/sys_enter_getppid") int p(void *ctx) { bpf_printk("x"); return 0; }'
    variables = (
        f'int limit = 1; const volatile int step = 2; SEC("{GETPPID}") int p(void *c) {{ return limit + step; }}'
    )
    passing = [f'SEC("{section}") int probe(void *ctx) {{ return {value}; }}'
               for section, value in (("xdp", 2), ("tc", 0), ("cgroup_skb/egress", 1))]  # fmt: skip
    good = [counting(GETPPID), empty("raw_tp/sys_enter"), empty("iter/task"), empty("perf_event"), every_map,
            empty("uprobe/libc.so.6:getpid"), *map(compile_object, [printing, variables, *passing])]  # fmt: skip
    return [*good, *good, good[0][:500], good[0][:64], b"", b"\x7fELF", chance.randbytes(300)]


class Fuzz:
    """Makes requests: mostly of the right form, with a wrong field here and there."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._objects = objects(chance)
        self._numbers = itertools.count()
        self.sessions = ["s"]
        self.maps = ["m0"]

    def request(self) -> tuple[dict[str, Any], bytes]:
        """Header and payload."""
        chance = self._chance
        if len(self.sessions) > 4:
            return {"verb": "close", "session": self.sessions.pop(0)}, b""
        verb = chance.choice([*VERBS, *["load", "attach"] * 8])
        fields, payload = {"load": self._load, "attach": self._attach}.get(verb, lambda: self._any(verb))()
        while chance.random() < 0.2:
            fields[chance.choice(sorted(fields))] = chance.choice(NOISE)
        if chance.random() < 0.05:
            del fields[chance.choice(sorted(fields))]
        if chance.random() < 0.05:
            payload = chance.randbytes(chance.choice([1, 7, 8, 64, 5000]))
        if chance.random() < 0.02:
            verb = chance.choice(["", "spawn", "verbs", "_close", "x" * 9999])
        return {**fields, "verb": verb}, payload

    def _session(self) -> str:
        return self._chance.choice([*self.sessions[-3:] * 3, "", "ä" * 300, "\0", "../x"])

    def _program(self) -> str:
        return self._chance.choice(["probe"] * 10 + ["p", "", "\0probe", "prob", "x" * 4096])

    def _load(self) -> tuple[dict[str, Any], bytes]:
        chance = self._chance
        fields = {
            "session": f"s{next(self._numbers)}" if chance.random() < 0.9 else self._session(),
            "name": "fuzz",
            "pass_fds": chance.random() < 0.5,
            "allow_change": chance.random() < 0.9,
            "attaches": chance.random() < 0.9,
            "map_budget_bytes": chance.choice([1 << 30, 1 << 30, 1 << 12]),
            "max_cpu": chance.choice([None, 64.0, 1e-9]),
            "for_s": chance.choice([None, None, 0.01]),
            "reuse": chance.choice([{}, {}, {}, {"m": chance.choice(self.maps[-3:])}]),
            "optional": chance.choice([[], [], [], [self._program()]]),
            "initial": chance.choice([{}, {}, {}, {"limit": "5"}, {"step": "x" * 99}]),
            "targets": {},
            "foreign": chance.random() < 0.2,
        }
        return fields, chance.choice(self._objects)

    def _attach(self) -> tuple[dict[str, Any], bytes]:
        targets = {self._program(): self._chance.choice(TARGETS)} if self._chance.random() < 0.3 else {}
        replaced = self._chance.choice(["", *self.sessions[-2:]])
        return {"session": self._session(), "targets": targets, "replaces": replaced}, b""

    def _any(self, verb: str) -> tuple[dict[str, Any], bytes]:
        chance = self._chance
        size = chance.choice([0, 1, 2, 8, 1 << 20])
        fields = {
            "session": self._session(),
            "map": chance.choice(self.maps[-4:]),
            "program": self._program(),
            "programs": {"0": self._program()},
            "kind": chance.choice(["tracepoint", "file"]),
            "kinds": ["tracepoint"],
            "pattern": chance.choice([*TARGETS, "sys_enter_*"]),
            "category": "syscalls",
            "name": chance.choice(TARGETS),
            "path": chance.choice(TARGETS),
            "pin": chance.choice(["/sys/fs/bpf/em-none", "/etc", "\0"]),
            "map_id": 1 << 31,  # none of another test's on this machine
            "repeat": chance.choice([0, 1, 3]),
            "flags": chance.choice([0, 1, 2, 1 << 63]),
            **{key: chance.choice([0, 0, size]) for key in ("ctx_bytes", "first", "offset", "size")},
            **{key: chance.random() < 0.5 for key in ("delete", "anew", "pass_fds")},
        }
        if verb == "packets":  # their lengths, then they themselves
            fields["count"] = chance.randrange(4)
            return fields, (b"\x40\0\0\0" + bytes(64)) * fields["count"]
        fields["count"] = chance.choice([0, 1, size])
        keys = fields["count"] if fields["count"] < 9 else 1
        return fields, bytes({"update": 16, "delete": 8, "contains": 8}.get(verb, chance.choice([0, 8, 64])) * keys)


@pytest.fixture
def interface() -> Iterator[None]:
    with wire(INTERFACE[:-1]):
        yield


def descriptors(agent: int) -> list[str]:
    return rights.output("sh", "-c", f"ls -l /proc/{agent}/fd | sed -n 's/.* -> //p' | sort").split("\n")


@pytest.mark.usefixtures("interface")
@pytest.mark.parametrize("seed", SEEDS)
def test_any_requests_are_answered(start_host: Callable[..., AgentHost], seed: int) -> None:
    host = start_host()
    channel = host._link.channel
    fuzz = Fuzz(random.Random(seed))
    number = 1 << 20

    def ask(header: dict[str, Any], payload: bytes = b"", fds: tuple[int, ...] = ()) -> dict[str, Any]:
        nonlocal number
        number += 1
        text = json.dumps({**header, "id": number, **({"fds": len(fds)} if fds else {})}).encode()
        raw = HEADER.pack(MAGIC, len(text), len(payload)) + text + payload
        sock = channel._sock
        assert sock is not None
        sent = socket.send_fds(sock, [raw], list(fds))
        sock.sendall(raw[sent:])
        frame = channel.receive()
        assert frame is not None, f"the agent ended at {header}"
        for fd in frame.fds:
            os.close(fd)
        assert frame.header["id"] == number
        return frame.header

    def ask_all_to_end() -> None:
        for token in ask({"verb": "status"})["sessions"]:
            ask({"verb": "close", "session": token})

    for verb in ("cgroups", "find", "status"):  # what is opened once and kept
        ask({"verb": verb, "kind": "tracepoint", "pattern": "x"})
    before = descriptors(host.info.pid)
    failures: dict[str, dict[str, Any]] = {}
    done: collections.Counter[str] = collections.Counter()
    for _ in range(REQUESTS):
        header, payload = fuzz.request()
        answer = ask(header, payload, (0,) if header["verb"] == "status" else ())
        fuzz.maps += [item["handle"] for item in answer.get("maps", [])]
        error = answer.get("error", {})
        done[header["verb"]] += not error
        if header["verb"] == "load" and not error:
            fuzz.sessions.append(header["session"])
        if "the agent failed" in str(error.get("why", "")):
            failures[error["why"]] = header
    assert failures == {}
    assert min(done[verb] for verb in ("load", "attach", "read", "stats")) > 0, done
    ask_all_to_end()
    assert eventually(lambda: descriptors(host.info.pid) == before), (before, descriptors(host.info.pid))
