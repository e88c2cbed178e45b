"""Read the documents: their code blocks, the commands in them, prose and code spans."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", ".github/**/*.md", "docs/*.md", "tools/**/*.md", "deploy/**/*.md")
    for path in REPOSITORY.glob(pattern)
)
_SHELL = ("", "sh", "console")
STANDS_FOR = "X"
_PLACEHOLDER = re.compile(r"…|\.\.\.")
#: Put in by a reader, as `<domain id>`, or by a program.
_PUT_IN = re.compile(r"<[^>]*>|\{[^}]*\}")


@dataclass(frozen=True, slots=True)
class Block:
    """A code block of a document."""

    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(REPOSITORY)}:{self.line}"


@dataclass(frozen=True, slots=True)
class Command:
    """A command line that a reader may type, or part of one that is mentioned."""

    where: str
    words: tuple[str, ...]
    whole: bool
    """Whether it could be typed as it stands."""

    def __str__(self) -> str:
        return f"{self.where} {' '.join(self.words)}"


def blocks(document: Path) -> Iterator[Block]:
    fence: tuple[int, str] | None = None
    held: list[str] = []
    for number, line in enumerate(document.read_text("utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            if fence is None:
                fence, held = (number, line.strip().removeprefix("```")), []
            else:
                yield Block(document, fence[0], fence[1], dedent("\n".join(held) + "\n"))
                fence = None
        elif fence is not None:
            held.append(line)
    assert fence is None, f"{document.name}: a code block is not closed"


def prose(document: Path) -> str:
    """A document without its code blocks; lines stay where they are."""
    lines, inside = [], False
    for line in document.read_text("utf-8").splitlines():
        fence = line.lstrip().startswith("```")
        lines.append("" if inside or fence else line)
        inside ^= fence
    return "\n".join(lines)


def spans(text: str) -> list[str]:
    """Code within prose, which may go on in the next line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def typed(block: Block) -> list[str]:
    """The lines of a block that are typed: without prompts, explanations behind them, and what is printed."""
    if block.language not in _SHELL:
        return []
    lines = re.sub(r" *\\\n\s*", " ", block.text).splitlines()
    prompted = block.language == "console"
    return [
        re.split(r"\s#\s|(?<=\S)\s{3,}(?=\S)", line.strip().removeprefix("$ "))[0]
        for line in lines
        if not prompted or line.lstrip().startswith("$ ")
    ]


def commands() -> Iterator[Command]:
    """Every command line of the documents, and of the advice that the product's messages give."""
    for document in DOCUMENTS:
        for block in blocks(document):
            for line in typed(block):
                yield from _commands(str(block), line, whole=True)
        for span in spans(prose(document)):
            yield from _commands(str(document.relative_to(REPOSITORY)), span, whole=False)
    for source in sorted((REPOSITORY / "src").rglob("*.py")):
        for line in source.read_text("utf-8").splitlines():
            for span in re.findall(r"`(sonant [^`]+)`", line):
                yield from _commands(str(source.relative_to(REPOSITORY)), span, whole=False)


def _commands(where: str, line: str, *, whole: bool) -> Iterator[Command]:
    line = _PUT_IN.sub(STANDS_FOR, line)
    for part in re.split(r"&&|\|\||;|\|", line):
        if _PLACEHOLDER.search(part):
            part, whole = _PLACEHOLDER.split(part)[0], False
        try:
            words = shlex.split(part)
        except ValueError:  # prose
            continue
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words.pop(0)
        if words and Path(words[0]).name in ("sonant", "aws", "make", "python"):
            yield Command(where, (Path(words[0]).name, *words[1:]), whole)
