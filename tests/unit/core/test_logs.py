"""The log: its two forms, the facts of an entry, the noise of others, and what it must never hold."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import sonant
from sonant.logs import configure, facts, note
from sonant.settings import Events, Gateway, Metrics, Settings
from sonant.settings.loading import in_force

ROOT = Path(sonant.__file__).parent
RFC_3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
log = logging.getLogger("sonant.test")


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What is logged; every test sets level and form by `configure(..., written)`."""
    root, own = logging.getLogger(), logging.getLogger("sonant")
    before = (list(root.handlers), root.level, own.level)
    yield io.StringIO()
    for handler in set(root.handlers) - set(before[0]):
        root.removeHandler(handler)
    for handler in before[0]:
        if handler not in root.handlers:
            root.addHandler(handler)
    root.setLevel(before[1])
    own.setLevel(before[2])
    logging.captureWarnings(False)


def test_text_begins_with_a_time_in_utc(written: io.StringIO) -> None:
    configure("info", "text", written)
    note(
        log,
        logging.INFO,
        "request",
        operation="DescribeDomain",
        ms=1.5,
        error=None,
        said="two words",
        empty="",
    )
    assert re.fullmatch(
        RFC_3339 + r' INFO sonant\.test: request operation=DescribeDomain ms=1\.5 said="two words"\n',
        written.getvalue(),
    )


def test_json_is_one_object_a_line(written: io.StringIO) -> None:
    configure("info", "json", written)
    note(log, logging.WARNING, "a\nb", job="J1")
    try:
        raise ValueError("odd")
    except ValueError:
        log.exception("failed")
    first, second = (json.loads(line) for line in written.getvalue().splitlines())
    assert re.fullmatch(RFC_3339, first["time"])
    assert (first["level"], first["logger"], first["message"]) == ("WARNING", "sonant.test", "a\nb")
    assert (first["job"], "exception" in first) == ("J1", False)
    assert second["exception"].endswith("ValueError: odd")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_fact_may_be_an_object(written: io.StringIO, form: str) -> None:
    configure("info", form, written)
    note(log, logging.INFO, "starts", settings={"gateway.port": 0})
    line = written.getvalue()
    if form == "json":
        assert json.loads(line)["settings"] == {"gateway.port": 0}
    else:
        assert line.endswith('sonant.test: starts settings={"gateway.port": 0}\n')


def test_a_message_cannot_forge_an_entry(written: io.StringIO) -> None:
    configure("info", "text", written)
    log.info("read %s", "x\n2026-01-01T00:00:00.000Z ERROR sonant: forged\x1b[2J")
    (line,) = written.getvalue().splitlines()
    assert r"x\n2026-01-01" in line
    assert "\x1b" not in line


def test_facts_of_a_block_belong_to_its_thread_alone(written: io.StringIO) -> None:
    configure("info", "text", written)
    with facts(request_id="r1"):
        other = threading.Thread(target=log.info, args=("elsewhere",))
        other.start()
        other.join()
        with facts(job="J1"):
            log.info("within")
    log.info("after")
    told = [line.partition("sonant.test: ")[2] for line in written.getvalue().splitlines()]
    assert told == ["elsewhere", "within request_id=r1 job=J1", "after"]


@pytest.mark.parametrize(
    ("level", "logged"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)], ids=str
)
def test_level_is_that_of_sonant_and_others_are_quiet(written: io.StringIO, level: str, logged: int) -> None:
    configure(level, "text", written)
    for one in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        log.log(one, "own")
    assert written.getvalue().count("own") == logged
    logging.getLogger("uvicorn.error").info("Started server process")
    assert "Started" not in written.getvalue()


def test_the_last_configuration_counts(written: io.StringIO) -> None:
    configure("info", "text", io.StringIO())
    configure("info", "text", written)
    log.info("once")
    assert written.getvalue().count("once") == 1


def test_settings_in_force_are_told_without_secrets() -> None:
    settings = replace(
        Settings(data=Path("/data"), database="postgresql://user:hunter2@host/name"),
        gateway=Gateway(port=9000),
        metrics=Metrics(token="a token of sixteen"),
        events=Events(webhook_url="https://me:hunter2@example.org/hook?key=hunter2"),
        carriers={"twilio_auth_token": "hunter2"},
    )
    told = in_force(settings)
    assert told == {
        "data": "/data",
        "database": "***",
        "gateway.port": 9000,
        "metrics.token": "***",
        "events.webhook_url": "https://***@example.org/hook?***",
        "live.twilio_auth_token": "***",
    }
    assert in_force(Settings()) == {}


# --- what must not be logged

#: Names in the source whose values are a voice's, a customer's or secret: no entry may be built from them.
FORBIDDEN = {
    "audio", "body", "contact_arn", "customer_id", "customer_ids", "customer_speaker_id", "description",
    "document", "embedding", "fingerprint", "headers", "parameters", "passphrase", "plaintext", "query",
    "recording",
    "risk_score", "riskDetails", "samples", "score", "scores", "secret", "session_name", "similarity", "tags",
    "text", "token", "vector", "voice", "voices",
}  # fmt: skip


def entries(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls that log: methods of a logger, and `note`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
            if called.value.id in ("log", "_log") and called.attr != "isEnabledFor":
                yield node
        elif isinstance(called, ast.Name) and called.id == "note":
            yield node


def names_in(call: ast.Call) -> set[str]:
    found = {keyword.arg for keyword in call.keywords if keyword.arg}
    for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
        for node in ast.walk(argument):
            if isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                found.add(str(node.slice.value))
    return found


def forbidden_entries(source: str) -> list[str]:
    return [
        f"line {call.lineno}: {', '.join(sorted(used))}"
        for call in entries(ast.parse(source))
        if (used := names_in(call) & FORBIDDEN)
    ]


def test_no_entry_is_built_from_a_voice_a_customers_id_or_a_secret() -> None:
    found = {
        str(path.relative_to(ROOT)): told
        for path in sorted(ROOT.rglob("*.py"))
        if "demo" not in path.parts and (told := forbidden_entries(path.read_text("utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "entry",
    [
        'log.info("speaker %s", speaker.customer_id)',
        'log.warning("found %s", details["riskDetails"])',
        'note(log, 20, "request", parameters=request.parameters)',
        'log.debug(f"{vector}")',
    ],
)
def test_an_entry_with_one_is_found(entry: str) -> None:
    assert forbidden_entries(entry)
