"""Names of public classes consist of words of the glossary and of plain words."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest
from documents import REPOSITORY

GLOSSARY = REPOSITORY / "docs" / "glossary.md"
#: Words of plain English and of programming, for which a glossary has nothing to add.
PLAIN_WORDS = Path(__file__).with_name("plain_words.txt")
MOST_PLAIN_WORDS = 165
#: HTTPServer2 is "HTTP", "Server", "2"; Pcm16Audio is "Pcm16", "Audio".
_WORD = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+")
_ENDINGS = ("s", "es", "d", "ed", "ing", "er", "or", "r", "ment", "ion", "ation")
_ENDINGS_OF_Y = ("ies", "ied", "ier")


def words_of(name: str) -> list[str]:
    """The words of a name in CamelCase, in lower case."""
    return [word.lower() for word in _WORD.findall(name)]


def base_forms(word: str) -> set[str]:
    """The word and what it may be an inflection of: `detectors` is also `detector` and `detect`."""
    found, waiting = {word}, [word]
    while waiting:
        one = waiting.pop()
        stems = [one[: -len(ending)] for ending in _ENDINGS if one.endswith(ending)]
        stems += [stem + "e" for stem in stems]
        stems += [stem[:-1] for stem in stems if len(stem) > 3 and stem[-1] == stem[-2]]
        stems += [one[:-3] + "y"] if one.endswith(_ENDINGS_OF_Y) else []
        new = {stem for stem in stems if len(stem) >= 3} - found
        found |= new
        waiting += new
    return found


def glossary_words(text: str) -> set[str]:
    """The words of the first column of the glossary's tables."""
    terms = re.findall(r"^\| (.+?) \|", text, re.MULTILINE)
    return {word.lower() for term in terms for word in re.findall(r"[A-Za-z]+\d*", term.replace("#", ""))}


def plain_words() -> list[str]:
    lines = (line.partition("#")[0] for line in PLAIN_WORDS.read_text("utf-8").splitlines())
    return [word for line in lines for word in line.split()]


@cache
def class_names() -> dict[str, set[str]]:
    """The words of the names of all public classes, with the names that have them."""
    found = defaultdict(set)
    for path in sorted((REPOSITORY / "src" / "sonant").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                for word in words_of(node.name):
                    found[word].add(node.name)
    return found


def explained(word: str, known: set[str]) -> bool:
    return not base_forms(word).isdisjoint(known)


def test_every_word_of_a_class_name_is_explained() -> None:
    known = glossary_words(GLOSSARY.read_text("utf-8")) | set(plain_words())
    known |= {form for word in known for form in base_forms(word)}
    unknown = {
        word: sorted(names) for word, names in sorted(class_names().items()) if not explained(word, known)
    }
    assert unknown == {}, "rename these classes or explain their words in docs/glossary.md"


def test_plain_words_are_few() -> None:
    assert len(plain_words()) <= MOST_PLAIN_WORDS


def test_plain_words_are_listed_once_and_used() -> None:
    listed = plain_words()
    assert sorted(listed) == sorted(set(listed))
    used = {form for word in class_names() for form in base_forms(word)}
    assert [word for word in listed if word not in used] == []


def test_plain_words_are_not_in_the_glossary() -> None:
    assert set(plain_words()) & glossary_words(GLOSSARY.read_text("utf-8")) == set()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ThreadPool", ["thread", "pool"]),
        ("S3ObjectStore", ["s3", "object", "store"]),
        ("HTTPServer", ["http", "server"]),
        ("Pcm16Audio", ["pcm16", "audio"]),
    ],
)
def test_name_is_split_in_words(name: str, words: list[str]) -> None:
    assert words_of(name) == words


def test_inflected_word_is_explained_by_its_base() -> None:
    bases = {"detectors": "detect", "policies": "policy", "cached": "cache", "dropped": "drop"}
    for word, base in bases.items():
        assert explained(word, {base}), word
    assert not explained("sitting", {"sitter"})
