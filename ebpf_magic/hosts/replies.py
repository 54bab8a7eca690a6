"""What an agent's answers must look like: an agent in a guest, or one day elsewhere, is not trusted to keep to it.

Everything the notebook takes out of an answer is named here with its kind; more may be in it. What does not fit is a
`WireError`, and the connection is of no use afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ebpf_magic.agent.wire import WireError

_MAX_CPUS = 8192  # NR_CPUS of distribution kernels
_MAX_KEY_OR_VALUE_BYTES = 1 << 26

Shape = str | list[Any] | dict[str, Any]

# count: 0 or more, 64 bits. number: any finite one. [shape]: a list of it. {"*": shape}: an object of them.
# A "?" at the end of a kind: or null. At the end of a key: it may be missing.
_PROGRAM: Shape = {
    "name": "text",
    "section": "text",
    "type": "text",
    "kind": "text",
    "id": "count",
    "insns": "count",
    "verified_insns": "count?",
    "xlated_bytes": "count",
    "jited_bytes": "count",
}
_MAP: Shape = {
    "handle": "text",
    "name": "text",
    "type": "text",
    "type_id": "count",
    "key_size": "size",
    "value_size": "size",
    "max_entries": "count",
    "flags": "count",
    "id": "count",
    "memory_bytes": "count",
    "internal": "flag",
    "pin": "text",
}
_COUNTERS: Shape = {
    "name": "text",
    "kind": "text",
    "runs": "count",
    "run_time_ns": "count",
    "missed_runs": "count?",
    "hook_ns": "number?",
}
_LISTED: Shape = {
    "id": "count",
    "name": "text",
    "type": "text",
    "pids": ["owner"],
    "uid?": "count",
    "loaded_s?": "number",
    "run_time_ns?": "count",
    "run_cnt?": "count",
    "missed_runs?": "count",
    "tag?": "text",
    "xlated_bytes?": "count",
    "jited_bytes?": "count",
    "key_size?": "count",
    "value_size?": "count",
    "map_ids?": ["count"],
    "max_entries?": "count",
    "memory_bytes?": "count",
}
_SHAPES: dict[str, dict[str, Any]] = {
    "hello": {
        "protocol": "count",
        "release": "text",
        "machine": "text",
        "arch": "text",
        "possible_cpus": "cpus",
        "online_cpus": "cpus",
        "page_size": "count",
        "build_id": "text",
        "libbpf": "text",
        "uid": "count",
        "pid": "count",
        "capabilities": ["text"],
        "load_problem": "text",
        "tracefs_problem": "text",
        "shell": "flag",
    },
    "load": {"programs": [_PROGRAM], "maps": [_MAP], "open_ns": "count", "load_ns": "count", "notes": ["text"]},
    "attach": {
        "links": [{"program": "text", "target": "text", "kind": "text", "detail": "text"}],
        "attach_ns": "count",
        "notes": ["text"],
        "gap_ns": "count?",
    },
    "status": {"sessions": {"*": {"state": "text", "reason": "text?", "message": "text", "warnings": ["text"]}}},
    "stats": {"time_ns": "count", "programs": [_COUNTERS]},
    "calibrate": {"hook_ns": {"*": "number?"}},
    "read": {
        "count": "count",
        "read": "text",
        "began_ns": "count",
        "ended_ns": "count",
        "restarts": "count",
        "key_bytes": "count",
        "value_bytes": "count",
    },
    "delete": {"deleted": "count"},
    "open": {"map": _MAP, "key_type": "count", "value_type": "count", "btf_problem": "text"},
    "pin": {"note": "text"},
    "lookup": {"found": "flag"},
    "log": {
        "lines": [{"time_s": "number", "cpu": "count", "pid": "count", "comm": "text", "text": "text"}],
        "dropped": "count",
    },
    "run": {"retval": "count", "duration_ns": "count", "ctx_bytes": "count", "data_bytes": "count"},
    "packets": {"count": "count", "data_bytes": "count"},
    "features": {"checks": [{"name": "text", "ok": "flag", "detail": "text", "hint": "text"}]},
    "list": {"programs": [_LISTED], "maps": [_LISTED], "more": "flag"},
    "iterate": {"more": "flag"},
    "spawn": {"pid": "count"},
    "take": {"status": "whole?"},
}


def check(verb: str, header: Mapping[str, Any], payload_bytes: int) -> None:
    """Check an answer; raises `WireError`, naming what is wrong with it.

    Parameters
    ----------
    verb : str
        What was asked.
    header : mapping
        The answer's JSON object.
    payload_bytes : int
        The length of its payload.
    """
    _check(header, _SHAPES.get(verb, {}), f"its answer to {verb!r}")
    if verb in ("read", "run"):
        parts = ("key_bytes", "value_bytes") if verb == "read" else ("ctx_bytes", "data_bytes")
        if sum(header[part] for part in parts) != payload_bytes:
            raise WireError(f"its answer to {verb!r} has a payload of {payload_bytes} bytes, which is not what it says")


def check_packets(sent: int, count: int, data_bytes: int, payload_bytes: int) -> None:
    """Check that an answer on packets is on as many as were sent and fills its payload; raises `WireError`."""
    if count != sent or 12 * count + data_bytes != payload_bytes:
        raise WireError(f"its answer on {count} of {sent} packets has a payload of {payload_bytes} bytes")


def check_entries(count: int, key_bytes: int, value_bytes: int, key_size: int, value_bytes_each: int) -> None:
    """Check that a map's entries fill the bytes that came; raises `WireError`."""
    # Entries without a byte of their own could be as many as it likes to say.
    if key_bytes != count * key_size or value_bytes != count * value_bytes_each or count > key_bytes + value_bytes:
        raise WireError(f"{count} entries do not fill {key_bytes} bytes of keys and {value_bytes} of values")


def cgroup_paths(payload: memoryview) -> dict[int, str]:
    """Read the paths of cgroups by their ids out of an answer; raises `WireError`."""
    found = {}
    for line in bytes(payload).split(b"\0")[:-1]:
        number, separator, path = line.partition(b" ")
        fits = number.isdigit() and len(number) <= 20 and int(number) < 1 << 64
        if not separator or not fits or not path.startswith(b"/"):
            raise WireError("its answer to 'cgroups' has a line that is no id and path")
        found[int(number)] = path.decode(errors="backslashreplace")
    return found


def _check(value: Any, shape: Shape, where: str) -> None:
    if isinstance(shape, str):
        if shape.endswith("?"):
            if value is None:
                return
            shape = shape[:-1]
        if not _KINDS[shape](value):
            raise WireError(f"{where} is to be a {shape}")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise WireError(f"{where} is to be a list")
        for item in value:
            _check(item, shape[0], where)
    else:
        if not isinstance(value, dict):
            raise WireError(f"{where} is to be an object")
        for key, wanted in shape.items():
            if key == "*":
                for name, item in value.items():
                    _check(item, wanted, f"{where}: {name[:40]!r}")
            elif not key.endswith("?"):
                if key not in value:
                    raise WireError(f"{where} has no {key}")
                _check(value[key], wanted, f"{where}: {key}")
            elif (key := key[:-1]) in value:
                _check(value[key], wanted, f"{where}: {key}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 64


def _is_count(value: Any) -> bool:
    return _is_whole(value) and value >= 0


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _is_owner(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and _is_count(value[0]) and isinstance(value[1], str)


_KINDS = {
    "text": lambda value: isinstance(value, str),
    "flag": lambda value: isinstance(value, bool),
    "whole": _is_whole,
    "count": _is_count,
    "number": _is_number,
    "size": lambda value: _is_count(value) and value <= _MAX_KEY_OR_VALUE_BYTES,
    "cpus": lambda value: _is_count(value) and 0 < value <= _MAX_CPUS,
    "owner": _is_owner,
}
