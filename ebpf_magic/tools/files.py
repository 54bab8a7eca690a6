"""The open files of all processes as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ebpf_magic.arguments import checked
from ebpf_magic.tools import unlisted

if TYPE_CHECKING:
    import pandas as pd

# By the type in an inode's mode, S_IFMT.
_KINDS = {0: "anonymous", 1: "fifo", 2: "char", 4: "directory", 6: "block", 8: "file", 10: "symlink", 12: "socket"}


@checked
def files(on: str | Sequence[str] = "auto") -> pd.DataFrame:
    """List every open file of every process.

    Parameters
    ----------
    on : str or sequence of str
        The host to ask; several give an index level ``host``.

    Returns
    -------
    pandas.DataFrame
        A row for each descriptor; columns ``pid``, ``fd``, ``kind`` (file, directory, fifo, socket, char, block,
        symlink, anonymous), ``path`` (``.../NAME`` where it is longer than 255 bytes), ``inode``, ``device``
        (``MAJOR:MINOR``), ``pos`` (bytes) and ``flags`` (those of ``open``). ``pid`` joins with `tasks`, ``inode`` of
        a socket with `sockets`.

    Requires
    --------
    A kernel with BTF, Linux 5.10, and the right to load programs. It needs no ``--allow-change``.

    Notes
    -----
    The first call on a host compiles and loads a program, a fifth of a second; later ones take a few microseconds a
    file. Threads that share their process's descriptors are not listed again.
    """
    return unlisted.on_each(on, _read)


def _read(on: str) -> pd.DataFrame:
    import pandas as pd

    frame = unlisted.session("files", on).iter["files"].df()
    codes, modes = pd.factorize(frame.pop("mode") // (1 << 12))
    frame["kind"] = pd.Categorical([_KINDS.get(int(mode), str(mode)) for mode in modes]).take(codes)
    return frame[["pid", "fd", "kind", "path", "inode", "device", "pos", "flags"]]
