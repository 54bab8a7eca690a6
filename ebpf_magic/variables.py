"""A session's global variables: read, and written while the programs run."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ebpf_magic.arguments import checked
from ebpf_magic.data import variables as data
from ebpf_magic.errors import MapError, StoppedError, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from ebpf_magic.bpf_map import Map
    from ebpf_magic.data.btf import Btf
    from ebpf_magic.session import Session

_MMAPABLE = 1 << 10  # BPF_F_MMAPABLE
_SHOWN = 20


class Variables(Mapping[str, Any]):
    """The global variables of a cell by name, typed as in C: a number or a text, of a struct or an array a Series.

    ``s.vars["limit"]`` reads, ``s.vars["limit"] = 10`` writes while the programs run; ``s.vars["conn.pid"]`` and
    ``s.vars["counts[3]"]`` are fields. After the session has ended it still answers with the last values.

    Notes
    -----
    Only the variable's own bytes are written: what a program writes into the one beside it is never lost. A number is
    written in one store; a whole struct is not.
    """

    def __init__(self, session: Session, btf: Btf, sections: Mapping[str, Map]) -> None:
        self._session = session
        self._variables = {
            name: variable for name, variable in data.declared(btf).items() if variable.section in sections
        }
        self._sections = sections

    @checked
    def __getitem__(self, name: str) -> Any:
        place = data.find(self._variables, name, f"read variable {name!r} of {self._session.name}")
        return data.value(place, self._bytes(self._section(place), place))

    @checked
    def __setitem__(self, name: str, value: Any) -> None:
        what = f"set variable {name} of {self._session.name}"
        place = data.find(self._variables, name, what)
        section = place.variable.section
        if section == data.KCONFIG:
            raise UsageError(what, "it is a setting of the kernel, which nothing can change while it runs")
        if section.startswith(".rodata"):
            raise UsageError(
                what,
                f"it lies in {section}, which nothing can change once it is loaded",
                f"Set it before: --set {name}={value}, or run(..., set={{{name!r}: {value!r}}}).",
            )
        handle = self._sections[section].handle
        if not handle.info.flags & _MMAPABLE:
            raise UsageError(
                what,
                f"every variable in {section} is static, and libbpf makes no such section writable from outside",
                "Leave out `static`.",
            )
        pieces = data.pieces(place, value, what)
        if self._session.state != "running":
            raise StoppedError(what, "the session has ended")
        for piece in pieces:
            handle.poke(piece.offset, piece.data)

    def __contains__(self, name: object) -> bool:
        return name in self._variables

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

    def df(self) -> pd.DataFrame:
        """Read all variables.

        Returns
        -------
        pandas.DataFrame
            Index ``name``, a row for each field (``conn.pid``, ``counts[3]``); columns ``value`` (Python objects),
            ``section``, and ``writable``: whether it can be set while the programs run.
        """
        import pandas as pd

        rows = []
        read = {section: self._section_bytes(section) for section in {v.section for v in self._variables.values()}}
        for name, variable in self._variables.items():
            handle = self._sections[variable.section].handle
            writable = not variable.section.startswith((".rodata", data.KCONFIG)) and bool(
                handle.info.flags & _MMAPABLE
            )
            found = data.cells(variable.layout, self._bytes(read[variable.section], data.Place(variable, None)))
            for column, value in zip(variable.layout.columns, found, strict=True):
                rows.append((data.field_name(name, column), value, variable.section, writable))
        frame = pd.DataFrame(rows, columns=["name", "value", "section", "writable"])
        return frame.astype({"value": object}).set_index("name")

    def __repr__(self) -> str:
        short = reprlib.Repr()
        short.maxdict, short.maxstring = 8, 60
        lines = []
        for name in list(self._variables)[:_SHOWN]:
            value = self[name]
            lines.append(f"  {name} = {short.repr(value.to_dict() if hasattr(value, 'to_dict') else value)}")
        if len(self) > _SHOWN:
            lines.append(f"  and {len(self) - _SHOWN} more")
        return "\n".join([f"<Variables of {self._session.name}{':' if lines else ': none'}", *lines]) + ">"

    def _section(self, place: data.Place) -> memoryview:
        return self._section_bytes(place.variable.section)

    def _section_bytes(self, section: str) -> memoryview:
        return self._sections[section].sample().values

    def _bytes(self, section: memoryview, place: data.Place) -> bytes:
        start, size = place.variable.offset, place.variable.layout.dtype.itemsize
        if start + size > len(section):
            raise MapError(
                f"read variable {place.variable.name} of {self._session.name}",
                f"{place.variable.section} has {len(section)} bytes, the variable ends at {start + size}",
            )
        return bytes(section[start : start + size])


class GroupVariables:
    """The variables of a cell on several hosts: read as a dict or a frame by host, written on all."""

    def __init__(self, by_host: Mapping[str, Variables]) -> None:
        self.by_host = dict(by_host)

    @checked
    def __getitem__(self, name: str) -> dict[str, Any]:
        return {host: variables[name] for host, variables in self.by_host.items()}

    @checked
    def __setitem__(self, name: str, value: Any) -> None:
        for variables in self.by_host.values():
            variables[name] = value

    def df(self) -> pd.DataFrame:
        """Read all variables; `Variables.df` with an index level ``host`` in front."""
        import pandas as pd

        return pd.concat({host: variables.df() for host, variables in self.by_host.items()}, names=["host"])

    def __repr__(self) -> str:
        return "\n".join(f"{host}: {variables!r}" for host, variables in self.by_host.items())
