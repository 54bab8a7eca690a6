"""Places in programs and libraries, as C: functions, and the probes that they bring along."""

from __future__ import annotations

import glob
import re
from typing import TYPE_CHECKING

from ebpf_magic import cell_texts, finding
from ebpf_magic.describing.description import Description

if TYPE_CHECKING:
    from ebpf_magic.hosts.base import AgentHost

_MOST_SHOWN = 20
# What a uprobe's section can name; Go and Rust have functions with other letters in their names.
_SYMBOL = re.compile(r"[A-Za-z_][\w.@$]*", re.ASCII)
# An argument as SystemTap writes it: its size, negative with a sign, and where it is.
_ARGUMENT = re.compile(r"(?:^|\s)(-?)([1248])f?@")


def function(host: AgentHost, name: str, kind: str = "uprobe") -> Description | None:
    """Describe a function of a file, named PATH:FUNCTION; `kind` is uprobe or uretprobe."""
    path, symbol = _exactly(host, name, "uprobe")
    if not path:
        return None
    text = (
        f"/* {symbol} of {path}. The file does not say what it takes and returns:\n"
        "   PT_REGS_PARM1(ctx) is its first argument, in a uretprobe PT_REGS_RC(ctx) is what it returned. */"
    )
    if not _SYMBOL.fullmatch(symbol):
        return Description("uprobe", f"{path}:{symbol}", text)
    section = f"{kind}/{path}:{symbol}"
    cell = cell_texts.of_return(section, symbol) if kind == "uretprobe" else cell_texts.of_hit(section, symbol)
    return Description("uprobe", f"{path}:{symbol}", text, *cell)


def probe(host: AgentHost, name: str) -> Description | None:
    """Describe a USDT probe of a file, named PATH:PROVIDER:NAME, by its arguments."""
    path, probe_name = _exactly(host, name, "usdt")
    if not path:
        return None
    found = {row.detail for row in finding.in_file(host, f"{path}:{glob.escape(probe_name)}") if row.kind == "usdt"}
    arguments = [f"{'s' if sign else 'u'}{8 * int(size)}" for sign, size in _ARGUMENT.findall(min(found))]
    named = [f"{kind} arg{number}" for number, kind in enumerate(arguments)]
    text = f"/* {probe_name} of {path} */\nvoid {_c(probe_name.rpartition(':')[2])}({', '.join(named) or 'void'});"
    cell = cell_texts.of_usdt(f"usdt/{path}:{probe_name}", probe_name.rpartition(":")[2], named)
    return Description("usdt", f"{path}:{probe_name}", text, *cell)


def functions(host: AgentHost, name: str, kind: str) -> Description | None:
    """Describe the functions of a file that PATH:PATTERN matches; `kind` is uprobe.multi or uretprobe.multi."""
    names = [row.name for row in finding.in_file(host, name) if row.kind == "uprobe"]
    if not names:
        return None
    path = names[0].partition(":")[0]
    pattern = name.partition(":")[2]
    lines = [f"/* {len(names):,} function{'s' if len(names) > 1 else ''} of {path}:"]
    lines += [f"   {each.partition(':')[2]}" for each in names[:_MOST_SHOWN]]
    if len(names) > _MOST_SHOWN:
        lines.append(f"   and {len(names) - _MOST_SHOWN:,} more")
    cell = cell_texts.of_hit(f"{kind}/{path}:{pattern}", "any", "bpf_get_func_ip(ctx)")
    return Description("uprobe", f"{path}:{pattern}", "\n".join([*lines, "*/"]), *cell)


def _exactly(host: AgentHost, name: str, kind: str) -> tuple[str, str]:
    """Find one function or probe of a file: the file's full path, and its name there; empty where there is none."""
    path, _, wanted = name.partition(":")
    for row in finding.in_file(host, f"{path}:{glob.escape(wanted)}"):
        found_path, _, found = row.name.partition(":")
        if row.kind == kind and wanted in (found, found.rpartition(":")[2] if kind == "usdt" else found):
            return found_path, found
    return "", ""


def _c(name: str) -> str:
    return re.sub(r"\W", "_", name, flags=re.ASCII)
