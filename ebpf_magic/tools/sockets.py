"""The sockets of a network namespace as a table."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ebpf_magic.arguments import checked
from ebpf_magic.tools import unlisted

if TYPE_CHECKING:
    import pandas as pd

# enum of include/net/tcp_states.h
_STATES = (
    "(0) ESTABLISHED SYN_SENT SYN_RECV FIN_WAIT1 FIN_WAIT2 TIME_WAIT CLOSE CLOSE_WAIT LAST_ACK LISTEN CLOSING "
    "NEW_SYN_RECV BOUND_INACTIVE"
).split()
_TYPES = {1: "stream", 2: "dgram", 5: "seqpacket"}
_COLUMNS = [
    *("protocol", "type", "state", "local", "local_port", "remote", "remote_port", "inode", "uid"),
    *("rx_queue_bytes", "tx_queue_bytes"),
]


@checked
def sockets(on: str | Sequence[str] = "auto") -> pd.DataFrame:
    """List the TCP, UDP and Unix sockets of the agent's network namespace.

    Parameters
    ----------
    on : str or sequence of str
        The host to ask; several give an index level ``host``.

    Returns
    -------
    pandas.DataFrame
        A row for each socket; columns ``protocol`` (tcp, udp, unix), ``type`` (stream, dgram, seqpacket), ``state``
        (the kernel's word; a UDP socket that is not connected is CLOSE), ``local`` and ``remote`` (``10.0.0.1:80``,
        ``[::1]:80``; of a Unix socket its path, or ``@NAME`` in the abstract namespace), ``local_port``,
        ``remote_port``, ``inode`` (0 where no process has it any more; joins with `files`), ``uid``,
        ``rx_queue_bytes`` and ``tx_queue_bytes``. Ports and queues of Unix sockets are missing.

    Requires
    --------
    A kernel with BTF, Linux 5.15, and the right to load programs. It needs no ``--allow-change``.

    Notes
    -----
    The first call on a host compiles and loads three programs, a quarter of a second; later ones take about a
    microsecond a socket, and each distinct address is written as text once.
    """
    return unlisted.on_each(on, _read)


def _read(on: str) -> pd.DataFrame:
    import pandas as pd

    session = unlisted.session("sockets", on)
    parts = [
        *(_inet(name, kind, session.iter[name].df()) for name, kind in (("tcp", "stream"), ("udp", "dgram"))),
        _unix(session.iter["unix_"].df()),
    ]
    frame = pd.concat(parts, ignore_index=True)[_COLUMNS]
    for name in ("protocol", "type", "state"):
        frame[name] = frame[name].astype("category")
    return frame


def _inet(protocol: str, kind: str, rows: pd.DataFrame) -> pd.DataFrame:
    frame = rows[["inode", "uid"]].assign(protocol=protocol, type=kind, state=_states(rows["state"]))
    for side in ("local", "remote"):
        frame[side] = _addresses(rows, side)
        frame[f"{side}_port"] = rows[f"{side}_port"].astype("UInt16")
    for queue in ("rx_queue_bytes", "tx_queue_bytes"):
        frame[queue] = rows[queue].astype("UInt32")
    return frame


def _unix(rows: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    frame = rows[["inode", "uid", "local"]].assign(protocol="unix", state=_states(rows["state"]), remote="")
    frame["type"] = _named(rows["type"], lambda number: _TYPES.get(number, str(number)))
    frame["remote"] = frame["remote"].astype("str")
    none = pd.array([pd.NA], dtype="UInt32").take([0] * len(rows))
    return frame.assign(
        local_port=none.astype("UInt16"), remote_port=none.astype("UInt16"), rx_queue_bytes=none, tx_queue_bytes=none
    )


def _states(numbers: pd.Series[Any]) -> Any:
    return _named(numbers, lambda number: _STATES[number] if number < len(_STATES) else str(number))


def _named(numbers: pd.Series[Any], name: Any) -> Any:
    """Give the names of numbers, each distinct one named once."""
    import pandas as pd

    codes, distinct = pd.factorize(numbers)
    return pd.array([name(number) for number in distinct.tolist()], dtype="str").take(codes)


def _addresses(rows: pd.DataFrame, side: str) -> Any:
    """Write addresses and ports as text, each distinct one once."""
    import pandas as pd

    parts = rows[["is_ipv6", f"{side}[0]", f"{side}[1]", f"{side}_port"]]
    distinct = parts.drop_duplicates()
    texts = [_address(*(int(part) for part in row)) for row in distinct.itertuples(index=False, name=None)]
    known = pd.Series(pd.array(texts, dtype="str"), index=pd.MultiIndex.from_frame(distinct))
    return known.reindex(pd.MultiIndex.from_frame(parts)).array


def _address(is_ipv6: int, first: int, second: int, port: int) -> str:
    if not is_ipv6:
        return f"{ipaddress.IPv4Address(first.to_bytes(8, 'little')[:4])}:{port}"
    return f"[{ipaddress.IPv6Address(first.to_bytes(8, 'little') + second.to_bytes(8, 'little'))}]:{port}"
