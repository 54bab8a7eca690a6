"""The sessions of the ready-made tables: one a host and table, loaded on first use, in nobody's list."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ebpf_magic.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from ebpf_magic.session import Session

_HERE = Path(__file__).parent
_sessions: dict[tuple[str, str], Session] = {}
_lock = threading.Lock()


def session(name: str, on: str) -> Session:
    """Give the running session of ``NAME.bpf.c`` on a host; it ends with the host's agent."""
    from ebpf_magic import running
    from ebpf_magic.hosts import registry

    host = registry.get(on)
    with _lock:
        found = _sessions.get((name, host.name))
        if found is None or found.agent_host is not host or found.state != "running":
            if found is not None:
                found.stop()  # its agent is gone or another one: it lets go of what it has here
            source = (_HERE / f"{name}.bpf.c").read_text(encoding="utf-8")
            found = _sessions[name, host.name] = running.start_unlisted(source, f"em_{name}", host.name)
        return found


def on_each(on: str | Sequence[str], read: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
    """Read a table on one host, or on several with an index level ``host`` in front."""
    import pandas as pd

    if isinstance(on, str):
        return read(on)
    hosts = list(on)
    if not hosts:
        raise UsageError(f"read a table on {on!r}", "name one host or several", 'Such as on=["vm:6.1", "vm:6.12"].')
    return pd.concat({host: read(host) for host in hosts}, names=["host", None])
