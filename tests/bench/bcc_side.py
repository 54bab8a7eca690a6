"""BCC's side of the benchmarks: run by the system's Python, one JSON object a line in, one out.

The distribution's BCC belongs to the distribution's Python; pandas is taken from there, or from the folder given as the
first argument (the virtual environment's, when both are of the same version).
"""

from __future__ import annotations

import ctypes
import json
import sys
import time

sys.path.append(sys.argv[1])

import numpy as np
import pandas as pd
from bcc import BPF

RELOAD = """
BPF_HASH(counts, u32, u64);
int on_call(void *ctx) { u32 pid = bpf_get_current_pid_tgid() >> 32; counts.increment(pid); return %d; }
"""
PLAIN = "BPF_HASH(m, u64, u64, %d);"
PER_CPU = """
struct told { u64 calls, bytes, ns, errors; u32 least, most; };
BPF_TABLE("percpu_hash", u64, struct told, m, %d);
"""
STRUCT = "struct who { u32 pid; char comm[16]; };\nBPF_HASH(m, struct who, u64, %d);"


class Side:
    def __init__(self) -> None:
        self.running: BPF | None = None
        self.filled: BPF | None = None
        self.struct_key = False

    def reload(self, number: int, event: str) -> dict[str, int]:
        began = time.perf_counter_ns()
        fresh = BPF(text=RELOAD % number)
        fresh.attach_tracepoint(tp=event, fn_name="on_call")
        attached = time.perf_counter_ns()
        if self.running is not None:
            self.running.cleanup()
        self.running = fresh
        return {"attached_ns": attached - began, "gone_ns": time.perf_counter_ns() - began}

    def fill(self, struct_key: bool, keys: str, values: str, entries: int) -> dict[str, int]:
        """Fill a new map from two files of raw bytes."""
        self.filled = BPF(text=(STRUCT if struct_key else PLAIN) % entries)
        self.struct_key = struct_key
        table = self.filled["m"]
        raw_keys, raw_values = np.fromfile(keys, np.uint8), np.fromfile(values, np.uint8)
        table.items_update_batch(
            (table.Key * entries).from_buffer_copy(raw_keys.tobytes()),
            (table.Leaf * entries).from_buffer_copy(raw_values.tobytes()),
        )
        return {"key_bytes": ctypes.sizeof(table.Key)}

    def read(self) -> dict[str, int]:
        """As one writes it with BCC: a loop over items(), then a DataFrame."""
        table = self.filled["m"]
        began = time.perf_counter_ns()
        if self.struct_key:
            rows = [(key.pid, key.comm.decode(), value.value) for key, value in table.items()]
            frame = pd.DataFrame(rows, columns=["pid", "comm", "value"]).set_index(["pid", "comm"])
        else:
            rows = [(key.value, value.value) for key, value in table.items()]
            frame = pd.DataFrame(rows, columns=["key", "value"]).set_index("key")
        took = time.perf_counter_ns() - began
        return {"ns": took, "rows": len(frame), "sum": int(frame["value"].sum())}

    def fill_per_cpu(self, keys: str, values: str, entries: int) -> dict[str, int]:
        """Fill a new per-CPU map: of each key a value for each possible CPU."""
        self.filled = BPF(text=PER_CPU % entries)
        table = self.filled["m"]
        raw_keys, raw_values = np.fromfile(keys, np.uint64), np.fromfile(values, np.uint8)
        each = raw_values.nbytes // entries
        for number, key in enumerate(raw_keys.tolist()):
            cpus = raw_values[number * each : (number + 1) * each].tobytes()
            table[table.Key(key)] = (table.sLeaf * table.total_cpu).from_buffer_copy(cpus)
        return {"cpus": table.total_cpu}

    def read_per_cpu(self) -> dict[str, int]:
        """As one writes it with BCC: a loop over items(), the CPUs added up, then a DataFrame."""
        table = self.filled["m"]
        names = ["calls", "bytes", "ns", "errors", "least", "most"]
        began = time.perf_counter_ns()
        rows = [
            (key.value, *(sum(getattr(cpu, name) for cpu in cpus) for name in names)) for key, cpus in table.items()
        ]
        frame = pd.DataFrame(rows, columns=["key", *names]).set_index("key")
        took = time.perf_counter_ns() - began
        return {"ns": took, "rows": len(frame), "sum": int(frame["bytes"].sum())}


def main() -> None:
    side = Side()
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(side, request.pop("do"))(**request)
        print(json.dumps(answer), flush=True)


main()
