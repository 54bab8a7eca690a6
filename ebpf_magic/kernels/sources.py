"""The machine's package sources, as far as they are the distribution's own."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass, replace
from pathlib import Path

ETC_APT = Path("/etc/apt")
KEYRINGS = Path("/usr/share/keyrings")
_ALIASES = ("stable", "oldstable", "testing", "unstable", "sid")
_KINDS = ("", "updates", "security", "backports", "proposed-updates")
# Mirrors keep the archive under one of these names, wherever they are.
_ARCHIVES = {
    "debian": {"debian", "debian-security", "debian.list", "debian-security.list"},
    "ubuntu": {"ubuntu", "ubuntu-ports", "ubuntu.list", "ubuntu-ports.list", "ubuntu-mirrors.list"},
}
_ONE_LINE = re.compile(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)((?:\s+[\w./-]+)+)")


@dataclass(frozen=True)
class Source:
    """One archive and what of it is wanted."""

    uri: str
    suite: str
    components: tuple[str, ...]

    @property
    def kind(self) -> str:
        """What of a release the suite is: empty for the release itself, else `updates`, `security`, `backports`."""
        return re.sub(r"^[^-/]*[-/]?", "", self.suite).replace("/", "-")

    def of(self, codename: str) -> Source:
        """Return the same archive's suite of another release."""
        return replace(self, suite=re.sub(r"^[^-/]*", codename, self.suite))


@dataclass(frozen=True)
class Distribution:
    """What this machine runs."""

    name: str
    codename: str


def distribution() -> Distribution | None:
    """Return which of the known distributions this machine runs, or is made from; None when it is neither."""
    try:
        about = platform.freedesktop_os_release()
    except OSError:
        return None
    like = {about.get("ID", ""), *about.get("ID_LIKE", "").split()}
    if "ubuntu" in like:
        return Distribution("ubuntu", about.get("UBUNTU_CODENAME") or about.get("VERSION_CODENAME", ""))
    return Distribution("debian", about.get("VERSION_CODENAME", "")) if "debian" in like else None


def of_machine(system: Distribution) -> list[Source]:
    """Return the machine's sources of the distribution's own packages; on Debian its backports too."""
    found: dict[Source, None] = {}
    for path in [ETC_APT / "sources.list", *sorted((ETC_APT / "sources.list.d").glob("*"))]:
        if path.suffix not in (".list", ".sources") or not path.is_file():
            continue
        text = path.read_text("utf-8", "replace")
        read = parse_stanzas(text) if path.suffix == ".sources" else parse_lines(text)
        found.update(dict.fromkeys(source for source in read if _is_own(source, system)))
    sources = list(found)
    if system.name == "debian" and not any(source.kind == "backports" for source in sources):
        plain = [source for source in sources if not source.kind]
        sources += [replace(source, suite=f"{system.codename}-backports") for source in plain]
    return sources


def _is_own(source: Source, system: Distribution) -> bool:
    names = {system.codename, *(_ALIASES if system.name == "debian" else ())}
    # Others lay out theirs alike ("bookworm main"): the name of the archive tells, and then the signature.
    parts = set(source.uri.rstrip("/").split("/"))
    return (
        "main" in source.components
        and re.split("[-/]", source.suite)[0] in names
        and source.kind in _KINDS
        and not source.uri.startswith("cdrom:")
        and bool(parts & _ARCHIVES[system.name])
    )


def parse_lines(text: str) -> list[Source]:
    """Read sources of one line each: ``deb [options] URI SUITE COMPONENT...``."""
    found = (_ONE_LINE.match(line.split("#")[0].strip()) for line in text.splitlines())
    return [Source(each[1], each[2], tuple(each[3].split())) for each in found if each]


def parse_stanzas(text: str) -> list[Source]:
    """Read sources as deb822 stanzas."""
    sources = []
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", text):
        fields = {
            name.lower(): value for name, value in re.findall(r"(?m)^([\w-]+):((?:.*\n?)(?:[ \t].*\n?)*)", stanza)
        }
        if fields.get("enabled", "").strip().lower() in ("no", "false", "0", "off", "without"):
            continue
        if "deb" in fields.get("types", "").split():
            uris, suites, components = (fields.get(key, "").split() for key in ("uris", "suites", "components"))
            sources += [Source(uri, suite, tuple(components)) for uri in uris for suite in suites]
    return sources


def as_stanzas(sources: list[Source], system: Distribution, architecture: str) -> str:
    """Write sources for the private apt: `main` and nothing but its package lists, held to the distribution's keys."""
    keyring = next(
        (path for end in ("gpg", "pgp") if (path := KEYRINGS / f"{system.name}-archive-keyring.{end}").exists()), None
    )
    lines = []
    for source in sources:
        lines += ["Types: deb", f"URIs: {source.uri}", f"Suites: {source.suite}", "Components: main"]
        lines += [f"Architectures: {architecture}", "Targets: Packages", "Languages: none", "PDiffs: no"]
        lines += [f"Signed-By: {keyring}"] if keyring else []  # without, apt goes by the machine's trusted keys
        lines.append("")
    return "\n".join(lines)
