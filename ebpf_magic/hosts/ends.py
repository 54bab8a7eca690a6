"""The other end of a host: the connection to an agent, and what that says of itself, of objects and of maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ebpf_magic.agent.wire import Channel
from ebpf_magic.hosts.handles import MapHandle


class Link(Protocol):
    """A started agent's connection and life, as a kind of host provides it; every method may be called twice."""

    channel: Channel

    def shutdown(self) -> None:
        """End the connection: the agent cleans up and ends, and a pending read of ours returns."""

    def wait(self, seconds: float) -> bool:
        """Wait for the agent to end; whether it did."""

    def kill(self) -> None:
        """End it by force."""

    def ending(self) -> str:
        """How it ended: ``killed by SIGSEGV``."""

    def last_words(self) -> str:
        """Read the tail of what it wrote to stderr."""

    def close(self) -> None:
        """Let go of everything once it has ended."""


@dataclass(frozen=True)
class HostInfo:
    """What the agent says of its kernel and of itself.

    `load_problem` says why this agent cannot load a program (empty when it can), `tracefs_problem` why it cannot see
    tracefs; `shell`, whether it runs commands.
    """

    protocol: int
    release: str
    machine: str
    arch: str
    possible_cpus: int
    online_cpus: int
    page_size: int
    build_id: str
    libbpf: str
    uid: int
    pid: int
    capabilities: list[str]
    load_problem: str = ""
    tracefs_problem: str = ""
    shell: bool = False


@dataclass
class Loaded:
    """What loading an object gave: its programs as the protocol describes them, and its maps by name."""

    programs: list[dict[str, Any]]
    maps: dict[str, MapHandle]
    open_ns: int
    load_ns: int
    notes: list[str]


@dataclass
class Opened:
    """A map of some other program: raw BTF of its owner with the ids of key and value, or why there is none."""

    handle: MapHandle
    btf: bytes
    key_type: int
    value_type: int
    btf_problem: str
