"""Commands, settings, scripts and links in the documents exist, and code blocks are valid."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from botocore import xform_name
from botocore.loaders import Loader
from botocore.model import ServiceModel
from documents import DOCUMENTS, REPOSITORY, STANDS_FOR, Block, Command, blocks, commands, prose, spans, typed

from sonant.cli.main import main
from sonant.gateway.models import DATA_PATH
from sonant.retention.rules import RULES, Rule
from sonant.settings import Settings, loading
from sonant.settings.listing import FORMER_NAMES, OTHER_VARIABLES, all_settings, former_variables

BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
COMMANDS = sorted(set(commands()), key=str)
SETTINGS = set(all_settings())
SECTIONS = {name.partition(".")[0] for name in SETTINGS if "." in name}
VARIABLES = {setting.variable for setting in all_settings().values()} | former_variables().keys()
#: What the AWS CLI knows for every operation.
AWS_OPTIONS = {
    "--cli-input-json", "--endpoint-url", "--generate-cli-skeleton", "--max-items", "--no-paginate",
    "--output", "--page-size", "--profile", "--query", "--region", "--starting-token",
}  # fmt: skip


def commands_of(program: str) -> list[Command]:
    found = [command for command in COMMANDS if command.words[0] == program]
    assert found, f"the documents have no command of {program}"
    return found


# --- sonant


def fault_of(words: list[str], *, whole: bool) -> str | None:
    """What is wrong with the words behind `sonant`, by the command line's own parsers; nothing is run."""
    command: click.Command = main
    context = click.Context(main, info_name="sonant")
    while isinstance(command, click.Group):
        if words and words[0] in ("--help", "--version"):
            return None
        found = command.get_command(context, words[0]) if words else None
        if found is None:  # a group may have a command that counts when none is named
            found = command.get_command(context, str(command.name))
            if found is None and not words:
                return "names no command" if whole else None
            if found is None:
                return None if words[0] == STANDS_FOR else f"{command.name} has no command {words[0]}"
        else:
            words = words[1:]
        context = click.Context(found, parent=context, info_name=found.name)
        command = found
    if command.name == "voice-id":
        return fault_of_aws("voice-id", words)
    try:
        values, rest, _ = command.make_parser(context).parse_args(list(words))
    except click.UsageError as fault:
        mentioned = not whole and "requires an argument" in fault.format_message()
        return None if mentioned else fault.format_message()
    if rest:
        return f"there is no place for {' '.join(rest)}"
    for parameter in command.params:
        value = values.get(parameter.name or "")
        if whole and parameter.required and parameter.value_is_missing(value):
            return f"{parameter.name} is missing"
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(parameter.type, click.Choice) and isinstance(one, str) and not one.isupper():
                try:
                    parameter.type.convert(one, parameter, context)
                except click.UsageError as fault:
                    return fault.format_message()
    return None


@pytest.mark.parametrize("command", commands_of("sonant"), ids=str)
def test_sonant_command_line_parses(command: Command) -> None:
    assert fault_of(list(command.words[1:]), whole=command.whole) is None


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("serve --hosts x", "No such option"),
        ("key rotat alias/sonant", "no command rotat"),
        ("job watch", "missing"),
        ("object get a b c", "no place for c"),
        ("evaluate DIR --test-s", "requires an argument"),
        ("session list --status gone", "is not one of"),
        ("voice-id list-domain", "no operation list-domain"),
        ("voice-id list-domains --max-result 1", "no option --max-result"),
        ("speaker", "names no command"),
    ],
)
def test_wrong_sonant_command_line_is_reported(words: str, fault: str) -> None:
    assert fault in str(fault_of(words.split(), whole=True))


# --- the AWS CLI


def models() -> dict[str, ServiceModel]:
    loader = Loader(extra_search_paths=[str(DATA_PATH)])
    return {
        name: ServiceModel(loader.load_service_model(name, "service-2")) for name in ("voice-id", "sonant")
    }


MODELS = models()


def fault_of_aws(service: str, words: list[str]) -> str | None:
    """What is wrong with an operation and its options, by the service model."""
    operations = {xform_name(name, "-"): name for name in MODELS[service].operation_names}
    if not words or words[0] == "help":
        return None
    if words[0] not in operations:
        return f"{service} has no operation {words[0]}"
    shape: Any = MODELS[service].operation_model(operations[words[0]]).input_shape
    members = {f"--{xform_name(name, '-')}" for name in (shape.members if shape else ())}
    unknown = [word for word in words[1:] if word.startswith("--") and word not in members | AWS_OPTIONS]
    return f"{words[0]} has no option {unknown[0]}" if unknown else None


@pytest.mark.parametrize("command", commands_of("aws"), ids=str)
def test_aws_command_line_parses(command: Command) -> None:
    if len(command.words) > 1 and command.words[1] in MODELS:
        assert fault_of_aws(command.words[1], list(command.words[2:])) is None


# --- make and scripts


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE))


@pytest.mark.parametrize("command", commands_of("make"), ids=str)
def test_make_target_exists(command: Command) -> None:
    asked = {word for word in command.words[1:] if "=" not in word and re.fullmatch(r"[a-z-]+", word)}
    assert asked <= targets()


def test_make_targets_are_phony() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.+)$", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert set(phony.split()) == targets()


@pytest.mark.parametrize("command", commands_of("python"), ids=str)
def test_script_has_the_options_of_the_document(command: Command) -> None:
    words = [word for word in command.words[1:] if word != "-m"]
    if not words or not words[0].endswith(".py"):
        return
    script = REPOSITORY / words[0]
    assert script.is_file()
    folder = [script, *script.parent.glob("report.py")]  # which has the options that all benchmarks share
    known = "".join(path.read_text("utf-8") for path in folder)
    for option in (word.partition("=")[0] for word in words if word.startswith("--")):
        assert f'"{option}"' in known, option


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?:bench|tools)/[\w/]+\.py", "\n".join(
    document.read_text("utf-8") for document in DOCUMENTS)))))  # fmt: skip
def test_named_script_exists(path: str) -> None:
    assert (REPOSITORY / path).is_file()


# --- settings


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_settings_exist(document: Path) -> None:
    text = document.read_text("utf-8")
    variables = set(re.findall(r"\bSONANT_[A-Z0-9_]+\b(?!\*)", text)) - {"SONANT_"}
    known = VARIABLES | OTHER_VARIABLES.keys() | FOREIGN_VARIABLES
    assert {name for name in variables if not name.endswith("_")} <= known
    dotted = {span.split(" = ")[0].strip() for span in spans(prose(document))}
    named = {name for name in dotted if re.fullmatch(r"[a-z_]+(\.[a-z0-9_]+)+", name)}
    own = {name for name in named if name.partition(".")[0] in SECTIONS and not name.endswith(NO_SETTING)}
    assert own - SETTINGS - NOT_OURS - FORMER_NAMES.keys() <= set()


#: An example of those that Kubernetes sets for a Service.
FOREIGN_VARIABLES = {"SONANT_API_SERVICE_HOST"}
#: Endings of names that are files.
NO_SETTING = (".py", ".json", ".md", ".csv", ".toml")
#: Files, and values of the Helm chart, whose names begin like a section of the settings.
NOT_OURS = {"service.key", "ray.enabled", "events.jsonl.1"}


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "toml"], ids=str)
def test_settings_block_loads(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "sonant.toml"
    file.write_text(block.text, "utf-8")
    assert tomllib.loads(block.text)
    assert isinstance(loading.load(file=file, environment={}), Settings)


def kept_for(rule: Rule) -> str:
    """How the documents say how long something is kept."""
    if rule.years is not None:
        return f"{rule.years} years"
    if rule.newest is not None:
        return f"the newest {rule.newest:,}"
    if rule.setting is not None:
        return f"`{rule.setting}`"
    days = 0 if rule.duration is None else rule.duration.days
    return "1 day" if days == 1 else f"{days} days"


def test_retention_rules_are_listed() -> None:
    rows = re.findall(
        r"^\| (.+?) \| (.+?) \|", (REPOSITORY / "docs" / "operations.md").read_text("utf-8"), re.M
    )
    for rule in RULES:
        assert (rule.subject, kept_for(rule)) in rows


# --- other blocks


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language not in ("toml",)], ids=str)
def test_block_is_valid_in_its_language(block: Block) -> None:
    match block.language:
        case "python":
            ast.parse(block.text)
        case "json":
            json.loads(block.text)
        case "xml":
            ElementTree.fromstring(f"<all>{block.text}</all>")
        case "sh" | "console":
            script = "\n".join(typed(block))
            done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        case "nginx" | "haproxy":
            assert block.text.count("{") == block.text.count("}")  # conformance/test_proxies.py runs them
        case "mermaid":
            assert fault_of_diagram(block.text) is None
        case language:
            assert language == "", f"blocks in {language} are not checked"


#: The first words of Mermaid's diagrams that the documents use.
DIAGRAMS = ("flowchart", "sequenceDiagram", "stateDiagram-v2")
#: What opens a part of a diagram that `end` closes.
OPENING = re.compile(r"(subgraph|loop|alt|opt|par|critical|rect)\b")


def fault_of_diagram(text: str) -> str | None:
    """What is wrong with a Mermaid diagram, as far as its lines say; no program of Mermaid is run."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines[0].split()[0] not in DIAGRAMS:
        return f"{lines[0]} begins no diagram"
    depth = 0
    for line in lines[1:]:
        depth += bool(OPENING.match(line)) - (line == "end")
        if depth < 0 or line.count('"') % 2 or line.count("[") != line.count("]"):
            return line
    return "a part is not closed" if depth else None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("graphic LR\n a --> b", "begins no diagram"),
        ('flowchart LR\n subgraph one["One"]\n a --> b', "not closed"),
        ('flowchart LR\n a["one --> b', 'a["one --> b'),
        ("sequenceDiagram\n end", "end"),
    ],
)
def test_broken_diagram_is_reported(text: str, fault: str) -> None:
    assert fault in str(fault_of_diagram(text))


@pytest.mark.parametrize("script", [REPOSITORY / ".ci" / "run"], ids=lambda path: path.name)
def test_shell_script_parses(script: Path) -> None:
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def scripts_of_pages() -> Iterator[Path]:
    for folder in ("src", "tests", "deploy"):
        yield from (path for path in (REPOSITORY / folder).rglob("*.js") if "node_modules" not in path.parts)


@pytest.mark.parametrize("script", sorted(scripts_of_pages()), ids=lambda path: path.name)
def test_javascript_parses(script: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("this machine has no node to read JavaScript with")
    done = subprocess.run([node, "--check", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- links


def anchors(document: Path) -> set[str]:
    """What links can lead to: headings as GitHub names them."""
    heads = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_within_the_repository_resolve(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        path, _, anchor = target.partition("#")
        if ":" in path:
            continue
        led_to = (document.parent / path).resolve() if path else document
        assert led_to.exists(), target
        if anchor:
            assert anchor in anchors(led_to), target
