"""The command line as a whole: what it loads, its common flags, its confirmations, and its page in docs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from sqlite_template import put_tables
from waiting import PATIENCE_S

import sonant
from sonant.assembly import installation
from sonant.cli.context import COMMON_FLAGS, CliContext, Command, current_context, pass_cli, split_output
from sonant.cli.main import COMMANDS, main
from sonant.cli.voice_id import aws_flags
from sonant.settings import Settings

PAGE = Path(__file__).parents[3] / "docs" / "commands.md"
HEAVY = {"numpy", "sqlalchemy", "onnxruntime", "botocore", "starlette", "uvicorn", "soundfile", "awscli"}


def leaves(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that is not a group, by its words."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from leaves(found, (*path, name))


LEAVES = dict(leaves(main))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a new installation."""
    folder = tmp_path_factory.mktemp("commands") / "data"
    put_tables(folder / "sonant.db")
    store = installation.open_store(Settings(data=folder), create=True)
    installation.first_start(store)
    store.database.close()
    return folder


# --- what is loaded -----------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["version"], ["--version"], ["nonsense"]], ids=str)
def test_help_and_version_load_no_heavy_module(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom sonant.cli.main import run\n"
        "try:\n    run()\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert "click" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_listed_help_is_the_commands_own(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    listed = COMMANDS[name].help.rstrip(".")
    assert (command.help or "").replace("\n", " ").startswith(listed)


# --- common flags -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_takes_the_common_flags(path: tuple[str, ...]) -> None:
    own = {name for parameter in LEAVES[path].params for name in parameter.opts}
    missing = COMMON_FLAGS - own
    assert missing == ({"--output"} if path == ("voice-id",) else set())


@click.command(cls=Command)
@pass_cli
def show_context(cli: CliContext) -> None:
    """Print the context."""
    click.echo(repr(cli))


def context_of(*arguments: str, **environment: str) -> str:
    done = CliRunner(env=environment).invoke(show_context, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output.strip()


def test_flags_become_one_context() -> None:
    shown = context_of("--data", "here", "--config", "x.toml", "--output", "json", "--quiet", "--no-color")
    expected = CliContext(
        data=Path("here"), config=Path("x.toml"), output="json", output_given=True, quiet=True, color=False
    )
    assert shown == repr(expected)
    assert context_of() == repr(CliContext())


@pytest.mark.parametrize(("value", "color"), [("1", False), ("", True)])
def test_no_color_in_the_environment_counts_unless_empty(value: str, color: bool) -> None:
    assert context_of(NO_COLOR=value) == repr(CliContext(color=color))


def test_flags_before_and_after_a_command_mean_the_same(data: Path) -> None:
    runner = CliRunner()
    places = (
        ["--data", str(data), "--output", "json", "key", "list"],
        ["key", "--data", str(data), "--output", "json", "list"],
        ["key", "list", "--data", str(data), "--output", "json"],
    )
    documents = [json.loads(runner.invoke(main, place, catch_exceptions=False).stdout) for place in places]
    assert documents[0] == documents[1] == documents[2]
    assert documents[0]["Keys"][0]["Aliases"] == ["alias/sonant"]


def test_the_later_flag_counts(data: Path) -> None:
    done = CliRunner().invoke(main, ["--data", "nowhere", "key", "list", "--data", str(data)])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("value", "output", "rest"),
    [(None, "text", None), ("json", "json", None), ("text", "text", None), ("report", "text", "report")],
)
def test_an_older_output_option_is_distinguished(value: str | None, output: str, rest: str | None) -> None:
    cli, other = split_output(CliContext(), value)
    assert (cli.output, other) == (output, rest)


@pytest.mark.parametrize(
    ("cli", "arguments", "flags"),
    [
        (CliContext(), ("list-domains",), []),
        (CliContext(output="json", output_given=True), ("list-domains",), ["--output", "json"]),
        (CliContext(output="json", output_given=True), ("list-domains", "--output", "table"), []),
        (CliContext(output="json", output_given=True), ("list-domains", "--output=table"), []),
        (CliContext(color=False), ("list-domains",), ["--color", "off"]),
        (CliContext(color=False), ("list-domains", "--color", "on"), []),
    ],
)
def test_voice_id_passes_common_flags_to_the_aws_cli(
    cli: CliContext, arguments: tuple[str, ...], flags: list[str]
) -> None:
    assert aws_flags(cli, arguments) == flags


# --- results as JSON ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "members"),
    [
        ("version", {"Version"}),
        ("key create", {"Key"}),
        ("key list", {"Keys"}),
        ("key describe alias/sonant", {"Key"}),
        ("key rotate alias/sonant", {"KeyArn", "DomainsWrapped"}),
        ("access list", {"AccessKeys"}),
        ("access create", {"AccessKeyId", "SecretAccessKey", "PrincipalArn"}),
        ("access user put ann", {"Arn"}),
        ("access user list", {"Users"}),
        ("access user policies sonant", {"Policies"}),
        ("access role list", {"Roles"}),
        ("access assume-role arn:aws:iam::000000000000:role/sonant", {"Credentials"}),
        ("access import-role arn:aws:iam::000000000000:role/other", {"RoleArn", "Account", "Buckets"}),
        ("access simulate sonant voiceid:ListDomains *", {"Allowed", "Reason", "Statements"}),
        ("object ls", {"Buckets"}),
        ("model list", {"Models"}),
        ("model list --known", {"Models"}),
        ("calibrate --show", {"Scope", "Calibrations"}),
        ("migrate", {"Migrated"}),
    ],
)
def test_output_json_is_one_document(data: Path, command: str, members: set[str]) -> None:
    done = CliRunner().invoke(
        main, [*command.split(), "--data", str(data), "--output", "json"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    assert members <= set(json.loads(done.stdout))


# --- confirmation -------------------------------------------------------------------------------------

DESTRUCTIVE = (
    "access user delete sonant",
    "access role delete sonant",
    "access delete AKIANOBODY",
    "key schedule-deletion alias/sonant",
    "key rotate alias/sonant --forget-earlier",
    f"domain repeat-deletions {__file__}",
    f"domain import-opt-outs {'A' * 22} {{speakers}}",
    f"model upgrade {'A' * 22} --finish",
)


@pytest.mark.parametrize("command", DESTRUCTIVE)
def test_what_destroys_needs_yes_without_a_terminal(data: Path, tmp_path: Path, command: str) -> None:
    speakers, events = tmp_path / "speakers.json", tmp_path / "events.jsonl"
    speakers.write_text(json.dumps({"SpeakerSummaries": []}))
    events.write_text(json.dumps({"source": "aws.voiceid", "detail-type": "other", "detail": {}}))
    words = command.replace(__file__, str(events)).format(speakers=speakers).split()
    before = {path: path.read_bytes() for path in (data / "keys").rglob("*") if path.is_file()}
    done = CliRunner().invoke(main, [*words, "--data", str(data)])
    assert done.exit_code == 2, done.output
    assert "--yes" in done.stderr
    assert {path: path.read_bytes() for path in (data / "keys").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_on_a_terminal_it_asks(monkeypatch: pytest.MonkeyPatch, answer: str, code: int) -> None:
    @click.command(cls=Command)
    @pass_cli
    def destroy(cli: CliContext) -> None:
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
        cli.confirm("This destroys all", yes=False)
        click.echo("destroyed")

    done = CliRunner().invoke(destroy, input=answer)
    assert done.exit_code == code
    assert "This destroys all. Go on? [y/N]" in done.stderr
    assert ("destroyed" in done.stdout) == (code == 0)


# --- evaluate -----------------------------------------------------------------------------------------


def test_evaluate_help_lists_its_measurements() -> None:
    done = CliRunner().invoke(main, ["evaluate", "--help"], catch_exceptions=False)
    assert done.exit_code == 0
    for name in ("verification", "fraudsters", "spoofing"):
        assert re.search(rf"^  {name} +\S", done.output, re.MULTILINE), done.output


@pytest.mark.parametrize(
    ("arguments", "measurement"),
    [
        (["DIR"], "verification"),
        (["--quiet", "DIR"], "verification"),
        (["--output", "spoofing", "DIR"], "verification"),
        (["verification", "DIR"], "verification"),
        (["spoofing"], "spoofing"),
        (["--output", "json", "spoofing"], "spoofing"),
        (["--output=json", "fraudsters", "DIR"], "fraudsters"),
    ],
)
def test_evaluate_measures_verification_unless_told_otherwise(arguments: list[str], measurement: str) -> None:
    done = CliRunner().invoke(main, ["evaluate", *arguments, "--help"], catch_exceptions=False)
    usage = done.output.partition("\n")[0]
    assert re.search(rf"evaluate {measurement} ", usage), usage


def test_the_former_name_of_the_default_measurement_works() -> None:
    evaluate = main.get_command(click.Context(main), "evaluate")
    assert isinstance(evaluate, click.Group)
    context = click.Context(evaluate)
    assert evaluate.get_command(context, "evaluate") is evaluate.get_command(context, "verification")


# --- the page -----------------------------------------------------------------------------------------


def test_the_page_lists_every_command_of_the_top_group() -> None:
    listed = re.findall(r"^\| `sonant ([a-z-]+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert listed == main.list_commands(click.Context(main))


def test_the_page_names_every_subcommand() -> None:
    rows = dict(re.findall(r"^\| `sonant ([a-z-]+)` \| (.*?) \|", PAGE.read_text("utf-8"), re.MULTILINE))
    for path in LEAVES:
        for word in path[1:]:
            assert f"`{word}`" in rows[path[0]], f"{' '.join(path)} is not on the page"


def test_the_page_names_every_common_flag_and_what_asks() -> None:
    text = PAGE.read_text("utf-8")
    for flag in COMMON_FLAGS:
        assert f"| `{flag}" in text
    asking = {" ".join(path) for path, command in LEAVES.items() if "--yes" in flags_of(command)}
    section = text.partition("## What destroys")[2].partition("\n## ")[0]
    named = {re.sub(r" --.*", "", found) for found in re.findall(r"`([a-z][^`]+)`", section)}
    assert named == asking


def flags_of(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def test_the_current_context_needs_no_flags() -> None:
    with click.Context(main):
        assert current_context().output == "text"


def test_the_version_is_the_packages() -> None:
    assert CliRunner().invoke(main, ["version"]).output == f"sonant {sonant.__version__}\n"
