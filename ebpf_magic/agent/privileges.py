"""Which capabilities this process has, and what is lost without each."""

from __future__ import annotations

import os
from collections.abc import Sequence

# Bit numbers of linux/capability.h, and what ebpf_magic cannot do without.
NEEDED = {
    "BPF": (39, "loading programs"),
    "PERFMON": (38, "tracing programs and perf events"),
    "DAC_READ_SEARCH": (2, "reading tracefs, which attaching tracepoints needs"),
    "SYS_ADMIN": (21, "uprobes, run statistics (and with them --max-cpu), the list of all programs, mounting tracefs"),
    "SYSLOG": (34, "kernel symbol addresses"),
    "NET_ADMIN": (12, "programs of the network and of cgroups"),
    "NET_RAW": (13, "socket filters"),
}
WAY_OUT = 'Start Jupyter as root, allow `sudo -n` for on="sudo", or run it in a VM.'


def effective() -> list[str]:
    """Names (without CAP_) of the capabilities of `NEEDED` that this process has."""
    with open("/proc/self/status") as status:
        mask = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    return [name for name, (bit, _) in NEEDED.items() if mask >> bit & 1]


def missing(names: Sequence[str]) -> list[str]:
    """Those of the named capabilities that this process lacks; SYS_ADMIN stands in for BPF and PERFMON."""
    have = set(effective())
    if "SYS_ADMIN" in have:
        have |= {"BPF", "PERFMON"}
    return [name for name in names if name not in have]


def explain(needs: Sequence[str]) -> tuple[str, str]:
    """Why an operation that needs these capabilities was not permitted, and the way out; empty if none is missing."""
    lacking = missing(needs)
    if not lacking:
        return "", ""
    names = " and ".join(f"CAP_{name}" for name in lacking)
    return f"not permitted: {names} missing (uid {os.getuid()})", WAY_OUT
