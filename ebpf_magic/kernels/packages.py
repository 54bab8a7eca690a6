"""The distribution's packages without root: an apt whose state, cache and sources are its own.

apt checks the signature of the package lists, and each package against them.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from ebpf_magic.errors import FetchError
from ebpf_magic.kernels import sources

Progress = Callable[[str, float], None]
_NETWORK = "Is this machine on a network? What apt said is on the error's log attribute."
_FULL = "XDG_DATA_HOME names another place for kernels; some may be removed with `ebpf-magic kernel remove`."
# `APT::Update` holds commands that a machine runs after its own update. Signatures are not negotiable here, whatever
# the machine's configuration says. apt as root fetches as a user of its own, who may not enter this user's folders.
_CONFIGURATION = """\
#clear APT::Update;
Dir::State "{work}/state";
Dir::State::lists "{work}/state/lists";
Dir::State::status "/dev/null";
Dir::Cache "{work}/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{work}/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
APT::Sandbox::User "root";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
"""


class Packages:
    """The packages of the machine's distribution.

    Parameters
    ----------
    work : Path
        An empty folder; all of apt's files go there.
    report : callable
        Told what is being fetched, and how much of it is there (0 to 1).

    Raises
    ------
    FetchError
        When this is no Debian or Ubuntu, or the package lists cannot be had.
    """

    def __init__(self, work: Path, report: Progress) -> None:
        system = sources.distribution()
        if system is None:
            raise FetchError(
                "fetch a kernel",
                "this is neither Debian nor Ubuntu, whose packages are understood here",
                "Any kernel of your own will do: pass the path of its vmlinuz.",
            )
        self.system = system
        self._work, self._report = work, report
        self._sources = sources.of_machine(system)
        if not self._sources:
            raise FetchError(
                "fetch a kernel",
                f"{sources.ETC_APT} names no source of {system.name}'s own packages for {system.codename}",
                "It wants a line or stanza with the component `main`.",
            )
        for folder in ("state/lists/partial", "cache/archives/partial", "sources", "packages"):
            (work / folder).mkdir(parents=True)
        (work / "apt.conf").write_text(_CONFIGURATION.format(work=work), "utf-8")
        self.architecture = self._output("dpkg", "--print-architecture").strip()
        self.trouble = ""
        self._update()

    def add_release(self, codename: str) -> None:
        """Look into another release of the distribution, too."""
        others = [source.of(codename) for source in self._sources if source.kind != "backports"]
        self._sources = list(dict.fromkeys([*self._sources, *others]))
        self._update()

    def _update(self) -> None:
        stanzas = sources.as_stanzas(self._sources, self.system, self.architecture)
        (self._work / "sources" / "own.sources").write_text(stanzas, "utf-8")
        status, log = self._apt("package lists", "update")
        # A mirror may lack one suite and have the package all the same: it matters when something is not found.
        self.trouble = log if status or re.search("(?m)^[EW]: ", log) else ""

    def names(self, pattern: str) -> list[str]:
        """Return the names of the packages that match a regular expression."""
        log = self._output("apt-cache", f"-c={self._work}/apt.conf", "search", "--names-only", pattern)
        return [line.split(" ")[0] for line in log.splitlines()]

    def versions(self, name: str) -> list[str]:
        """Return the versions of a package."""
        lines = self._output("apt-cache", f"-c={self._work}/apt.conf", "madison", name).splitlines()
        return [parts[1].strip() for line in lines if len(parts := line.split("|")) == 3]

    def about(self, name: str) -> dict[str, str]:
        """Return the fields of a package."""
        text = self._output("apt-cache", f"-c={self._work}/apt.conf", "show", "--no-all-versions", name)
        return dict(re.findall(r"(?m)^([\w-]+): (.*)$", text))

    def download(self, name: str, version: str = "") -> Path:
        """Fetch a package and return its file; apt has held it to the signed lists."""
        folder = self._work / "packages"
        before = set(folder.iterdir())
        status, log = self._apt(name, "download", f"{name}={version}" if version else name)
        new = set(folder.iterdir()) - before
        if status or not new:
            raise _error(f"fetch the package {name}", log)
        return new.pop()

    def no_lists(self) -> FetchError:
        """Return the error for when nothing is found because the lists could not be had."""
        return _error("fetch the package lists", self.trouble)

    def _output(self, *command: str) -> str:
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=_environment())
        except FileNotFoundError:
            raise _missing(command[0]) from None
        return done.stdout

    def _apt(self, text: str, *words: str) -> tuple[int, str]:
        """Run apt-get, telling how far it is; return its exit status and all it said."""
        self._report(text, 0.0)
        log = self._work / "apt.log"
        reads, writes = os.pipe()
        with open(reads, encoding="utf-8", errors="replace") as lines:
            try:
                command = ["apt-get", f"-c={self._work}/apt.conf", "-q", "-o", f"APT::Status-Fd={writes}", *words]
                process = _start(command, self._work / "packages", log, writes)
            finally:
                os.close(writes)
            try:
                for line in lines:
                    self._tell(text, line)
                status = process.wait()
            finally:
                end(process)
        self._report(text, 1.0)
        return status, log.read_text("utf-8", "replace")

    def _tell(self, text: str, line: str) -> None:
        found = re.match(r"dlstatus:\d+:([\d.]+):", line)
        if found:
            self._report(text, min(float(found[1]) / 100, 1.0))


def _start(command: Sequence[str], folder: Path, log: Path, status_fd: int) -> subprocess.Popen[bytes]:
    try:
        with open(log, "wb") as output:
            # A group of its own: Ctrl-C reaches this process alone, which then ends it.
            return subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[status_fd],
                env=_environment(),
                start_new_session=True,
            )
    except FileNotFoundError:
        raise _missing(command[0]) from None


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children, if it has not ended by itself."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _environment() -> dict[str, str]:
    return os.environ | {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}


def _missing(command: str) -> FetchError:
    return FetchError(
        "fetch a kernel",
        f"the command {command} is missing",
        "Any kernel of your own will do: pass the path of its vmlinuz.",
    )


def _error(what: str, log: str) -> FetchError:
    if "No space left" in log or "enough free space" in log:
        return FetchError(what, "the disk is full", _FULL, log=log)
    return FetchError(what, complaint(log) or "apt-get did not say why", _NETWORK, log=log)


def complaint(log: str) -> str:
    """Return what apt says is wrong, in a line."""
    lines = re.findall(r"(?m)^(?:E|W|Err:\d+): ?(.*)$", log)
    errors = re.findall(r"(?m)^E: (.*)$", log)
    chosen = list(dict.fromkeys(errors or lines))
    return "; ".join(chosen[:3])
