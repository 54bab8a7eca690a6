"""The magics: each parses its line and makes one call of the Python API."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, magics_class

from ebpf_magic import options

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


@magics_class
class EbpfMagics(Magics):
    """``%%ebpf`` runs a cell in the kernel; ``%ebpf`` asks what works here, lists and stops."""

    shell: InteractiveShell

    @line_cell_magic
    def ebpf(self, line: str, cell: str | None = None) -> Any:
        """Run a cell, or answer a line; the parsers' help replaces this text when the extension is loaded."""
        chosen = options.parse_line(line) if cell is None else options.parse(options.cell_parser(), line)
        if cell is None and chosen.verb != "load":
            return _ask(chosen)
        import ebpf_magic
        from ebpf_magic.display import ProgressLine

        if cell is None:
            session = ebpf_magic.load_object(**options.load_options(chosen), progress=ProgressLine())
        else:
            session = ebpf_magic.run(cell, **options.run_options(chosen), progress=ProgressLine())
        self.shell.push({session.name: session})
        if not chosen.quiet:
            session._ipython_display_()
        return None


def _ask(chosen: Namespace) -> Any:
    """Do what ``%ebpf VERB`` asks for."""
    import ebpf_magic
    from ebpf_magic import listing, register

    if chosen.verb == "doctor":
        return ebpf_magic.doctor()
    if chosen.verb == "probes":
        return ebpf_magic.probes(chosen.pattern, chosen.kind, chosen.on)
    if chosen.verb == "describe":
        return ebpf_magic.describe(" ".join(chosen.target), chosen.on)
    if chosen.verb == "sh":
        from ebpf_magic.display import ProgressLine

        started = ebpf_magic.sh(**options.sh_options(chosen), progress=ProgressLine())
        return started if chosen.command.endswith("&") else None
    if chosen.verb == "ls":
        return listing.kernel() if chosen.all else listing.sessions()
    if chosen.all:
        ebpf_magic.stop_all()
    else:
        register.find(chosen.name).stop()
    return None


def _help() -> str:
    """Text of ``%%ebpf?``: the parsers' own help, and the macros of ebpf_magic.h."""
    from ebpf_magic.build import macros_help

    return "\n".join([options.help_text(), "Macros of ebpf_magic.h:", macros_help()])


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magics: ``%load_ext ebpf_magic``."""
    EbpfMagics.ebpf.__doc__ = _help()
    shell.register_magics(EbpfMagics)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Stop every session: ``%unload_ext ebpf_magic``."""
    import ebpf_magic

    ebpf_magic.stop_all()
