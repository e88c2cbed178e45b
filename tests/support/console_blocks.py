"""Run the console blocks of the documents, as a reader types them, and compare what they print by its shape.

A block that no test can run has a comment before it with the reason, `<!-- not run: needs Docker -->`; one
that another test runs names it, `<!-- run by tests/acceptance/test_demo.py -->`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

from documents import DOCUMENTS, REPOSITORY, Block, blocks, typed
from service_process import BIN, Ended, ServiceProcess, ended, environment, running

#: What a reader's commands begin with; a block without a language that has none of them is no console block.
PROGRAMS = {
    "aws", "createdb", "curl", "docker", "export", "helm", "kubectl", "make", "openssl", "pip", "python",
    "ray", "sonant",
}  # fmt: skip
#: Reasons for which a block is not run.
REASONS = ("needs ", "long: ", "output of ", "for one's own ")
_MARK = re.compile(r"^\s*<!-- (not run: |run by )(.+) -->$")
#: Beginnings of commands for which the present environment stands.
_PREPARING = re.compile(r"(make (?!serve)|pip install |source )")
LONGEST_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """A command of a block, and what the page shows that it prints."""

    command: str
    printed: str = ""


def is_console(block: Block) -> bool:
    """Whether a reader is meant to type the block."""
    if block.language in ("console", "sh"):
        return True
    first = (line.removeprefix("$ ").split() for line in typed(block))
    return any(words and Path(words[0]).name in PROGRAMS for words in first)


def console_blocks(page: Path) -> list[Block]:
    return [block for block in blocks(page) if is_console(block)]


def pages() -> Iterator[Path]:
    """All documents with console blocks."""
    return (page for page in DOCUMENTS if console_blocks(page))


def mark(block: Block) -> tuple[str, str] | None:
    """The comment before a block: what it says, and of what."""
    lines = block.document.read_text("utf-8").splitlines()[: block.line - 1]
    while lines and not lines[-1].strip():
        lines.pop()
    found = _MARK.match(lines[-1]) if lines else None
    return None if found is None else (found[1].strip(" :"), found[2])


def steps(block: Block) -> list[Typed]:
    """The commands of a block in their order."""
    if block.language != "console":
        return [Typed(command=line) for line in typed(block) if line.strip()]
    found: list[Typed] = []
    lines = iter(dedent(block.text).splitlines())
    for line in lines:
        if line.startswith("$ "):
            command = line.removeprefix("$ ")
            while command.endswith("\\"):
                command = f"{command[:-1].rstrip()} {next(lines).strip()}"
            found.append(Typed(command=re.split(r"\s+# ", command)[0].rstrip()))
        elif found:
            last = found.pop()
            found.append(Typed(command=last.command, printed=f"{last.printed}{line}\n"))
    return found


def shape(shown: str) -> re.Pattern[str]:
    """What has the shape of an output: other numbers, ids, dates and spaces; `...` stands for anything."""
    free = re.compile(
        r"(?P<any>\.\.\.|…)|(?P<id>\b(?=\w*[0-9])(?=\w*[A-Za-z])\w{20,}\b)|(?P<number>\d[\d.,:]*)|(?P<space>\s+)"
    )
    put = {"any": r"[\s\S]*?", "id": r"\w+", "number": r"\d[\d.,:]*", "space": r"\s+"}
    parts, end = [], 0
    for found in free.finditer(shown.strip()):
        parts += [re.escape(shown.strip()[end : found.start()]), put[str(found.lastgroup)]]
        end = found.end()
    return re.compile("".join([*parts, re.escape(shown.strip()[end:])]))


@dataclass(slots=True)
class Terminal:
    """A reader's terminal in an empty folder, which is also the home folder."""

    folder: Path
    open_until: ExitStack
    known: dict[str, str] = field(default_factory=dict)
    """What stands for the placeholders of the pages."""
    exits: Mapping[str, int] = field(default_factory=dict)
    """Beginnings of commands that end with another status than 0."""
    confirmed: tuple[str, ...] = ()
    """Beginnings of commands that get `--yes`."""
    settings: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    service: ServiceProcess | None = None

    def serve(self) -> ServiceProcess:
        """Start the service as `sonant serve` in this folder does, on a free port; once."""
        if self.service is None:
            (self.folder / "sonant-data").mkdir(exist_ok=True)
            self.service = self.open_until.enter_context(
                running(self.folder / "sonant-data", **self.settings)
            )
        return self.service

    def run(self, step: Typed) -> Ended | None:
        """Run a command; None if there is nothing to run.

        Raises AssertionError for a wrong status or output.
        """
        if re.match(r"make serve|sonant serve", step.command):
            self.serve()
            return None
        if _PREPARING.match(step.command):
            self._check_extras(step.command)
            return None
        command = self._with_known(step.command)
        if step.command.startswith(self.confirmed):
            command += " --yes"
        done = ended(["bash", "-u", "-c", self._script(command)], self._environment(), self.folder, LONGEST_S)
        status = next((code for start, code in self.exits.items() if step.command.startswith(start)), 0)
        assert done.code == status, f"{command}\nended with {done.code}\n{done.out}\n{done.err}"
        if step.printed.strip():
            assert shape(step.printed).fullmatch(done.out.strip()), (
                f"{command}\nprinted\n{done.out}\n{done.err}"
            )
        self._learn(step.command, done.out)
        return done

    def _with_known(self, command: str) -> str:
        if self.service is not None:
            command = command.replace("http://127.0.0.1:8180", self.service.url)
        for name, value in self.known.items():
            command = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", lambda _found: value, command)  # noqa: B023
        return command

    def _script(self, command: str) -> str:
        """Exported variables hold for the commands that follow, as in one terminal."""
        kept = self.folder / ".exported"
        return f". {kept} 2>/dev/null\n{command}\ncode=$?\nexport -p > {kept}\nexit $code"

    def _environment(self) -> dict[str, str]:
        own = {f"SONANT_{name}": text for name, text in self.settings.items()}
        more = {"PATH": f"{BIN}:/usr/sbin:/usr/bin:/bin", "HOME": str(self.folder)}
        return environment() | own | self.variables | more

    def _check_extras(self, command: str) -> None:
        """What a page installs is there to be installed."""
        extras = re.findall(r"(?:sonant|\.)\[([\w,]+)\]", command)
        text = (REPOSITORY / "pyproject.toml").read_text("utf-8")
        for extra in (name for names in extras for name in names.split(",")):
            assert re.search(rf"^{extra} = \[", text, re.M), f"{command}: there is no extra {extra}"

    def _learn(self, command: str, out: str) -> None:
        """Keep ids that a command prints for the commands that follow."""
        for part, name, pattern in LEARNT:
            found = re.search(pattern, out) if part in command else None
            if found:
                self.known[name] = found[1]


#: What commands print that later commands name: part of the command, the placeholder, where the id stands.
LEARNT = (
    ("create-domain", "DOMAIN_ID", r"^([A-Za-z0-9]{22})$"),
    ("start-speaker-enrollment-job", "JOB_ID", r"^([A-Za-z0-9]{22})$"),
    ("job start", "JOB_ID", r"\b([A-Za-z0-9]{22})\b"),
    ("speaker receipt-key", "KEY", r"(\S+)\s*$"),
    ("session stream", "SESSION", r"^(\S+): heard"),
)
