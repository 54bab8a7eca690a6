"""What a session's programs cost, what they said, and what they could not count."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from ebpf_magic.errors import StoppedError

if TYPE_CHECKING:
    import pandas as pd

    from ebpf_magic.bpf_map import Map
    from ebpf_magic.data.btf import Btf
    from ebpf_magic.hosts.base import AgentHost

_LOG_LINES = 10_000


class Accounts:
    """The part of a `Session` that gives account of it, also after its end."""

    token: str
    agent_host: AgentHost
    lock: threading.RLock
    _state: str
    _ending: bool
    _all_maps: dict[str, Map]
    _missed: dict[str, tuple[str, int]]
    _counters: bytes
    _stats: dict[str, Any]
    _since_ns: int
    _log: list[dict[str, Any]]
    _log_dropped: int

    def stats(self) -> pd.DataFrame:
        """Tell what the programs cost, and what they missed.

        Returns
        -------
        pandas.DataFrame
            Index ``program``; columns ``runs``, ``run_time_ns`` (program time, measured by the kernel),
            ``ns_per_run``, ``cpu_share`` (program time as a share of one core since it was attached),
            ``hook_ns_estimate`` (what one hit of this attach kind costs beside the program: measured with an empty
            program on this kernel, once, before the first session with this kind; NaN where that cannot be done)
            and ``missed_runs`` (hits that the kernel skipped; NaN for a kprobe where the kernel does not tell, before
            Linux 6.7).
        """
        import pandas as pd

        raw = self.poll_stats()
        since_ns = max(raw.get("time_ns", 0) - self._since_ns, 1)
        rows = []
        for program in raw.get("programs", []):
            runs, run_time_ns, hook_ns = program["runs"], program["run_time_ns"], program["hook_ns"]
            rows.append(
                {
                    "program": program["name"],
                    "runs": runs,
                    "run_time_ns": run_time_ns,
                    "ns_per_run": run_time_ns / runs if runs else float("nan"),
                    "cpu_share": run_time_ns / since_ns,
                    "hook_ns_estimate": float("nan") if hook_ns is None else float(hook_ns),
                    "missed_runs": float("nan") if program["missed_runs"] is None else program["missed_runs"],
                }
            )
        columns = ["program", "runs", "run_time_ns", "ns_per_run", "cpu_share", "hook_ns_estimate", "missed_runs"]
        return pd.DataFrame(rows, columns=columns).set_index("program")

    @property
    def log(self) -> pd.DataFrame:
        """What ``bpf_printk`` said while the session ran.

        Returns
        -------
        pandas.DataFrame
            Columns ``time_s`` (since boot), ``cpu``, ``pid``, ``comm``, ``text``; the last 10,000 lines.
            ``attrs["dropped"]`` counts the lines before them. The kernel does not say which program wrote a line: it
            may come from another session's program.
        """
        import pandas as pd

        self.poll_log()
        frame = pd.DataFrame(self._log, columns=["time_s", "cpu", "pid", "comm", "text"])
        frame.attrs["dropped"] = self._log_dropped
        return frame

    def missed(self) -> dict[str, dict[str, int]]:
        """Tell what the cell's macros could not count, by map.

        Returns
        -------
        dict
            For each map with the short macros: ``full`` (updates that a full map refused) and ``unseen`` (ends for
            which no START was seen).
        """
        return {name: self.missed_of(name) for name in self._missed}

    def missed_of(self, name: str) -> dict[str, int]:
        """Tell the same of one map; zeros for one without the short macros."""
        section, offset = self._missed.get(name, ("", 0))
        if section not in self._all_maps:
            return {"full": 0, "unseen": 0}
        with contextlib.suppress(StoppedError):  # its agent ended before a last reading: then what was read last
            self._counters = bytes(self._all_maps[section].sample().values)
        full, unseen = (int.from_bytes(self._counters[at : at + 8], "little") for at in (offset, offset + 8))
        return {"full": full, "unseen": unseen}

    def lost(self, programs: list[dict[str, Any]] | None = None) -> list[str]:
        """Say in words what was not counted, not seen, or not run; empty when nothing was lost."""
        if programs is None:
            programs = self.poll_stats().get("programs", [])
        words = [
            f"{program['name']}: {program['missed_runs']:,} runs skipped by the kernel"
            for program in programs
            if program["missed_runs"]
        ]
        for name, counts in self.missed().items():
            if counts["full"]:
                words.append(f"{name}: {counts['full']:,} updates refused, the map is full")
            if counts["unseen"]:
                words.append(f"{name}: {counts['unseen']:,} ends without a START")
        if self._log_dropped:
            words.append(f"log: {self._log_dropped:,} lines dropped")
        return words

    def poll_stats(self) -> dict[str, Any]:
        """Give the agent's counters as they are now, or as they were at the end."""
        with self.lock:
            if self._state == "running" and not self._ending:
                self._stats = self.agent_host.stats(self.token)
            return self._stats

    def poll_log(self) -> list[dict[str, Any]]:
        """All log lines so far, after fetching the new ones."""
        with self.lock:
            if self._state == "running" and not self._ending:
                self._fetch_log()
            return self._log

    def _fetch_log(self) -> None:
        reply = self.agent_host.log(self.token)
        self._log.extend(reply["lines"])
        excess = max(len(self._log) - _LOG_LINES, 0)
        del self._log[:excess]
        self._log_dropped += excess + reply["dropped"]


def missed_counters(btf: Btf) -> dict[str, tuple[str, int]]:
    """Map name -> (data section, byte offset) of the counters that the short macros keep beside each map."""
    section, suffix = ".data.em", "__missed"
    return {
        variable.name[: -len(suffix)]: (section, variable.offset)
        for variable in btf.variables(section)
        if variable.name.endswith(suffix)
    }
