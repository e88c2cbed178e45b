"""Every console block of the documents is run as a reader types it, or says why not."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from console_blocks import REASONS, Terminal, Typed, console_blocks, mark, pages, shape, steps
from documents import REPOSITORY, Block, blocks

SPEAKER = "customer-4711"


class Recordings:
    """Recordings of one voice and of another, as files."""

    def __init__(self, make_call: Any, voices: Any) -> None:
        self._make, self._voices = make_call, list(voices)

    def enrollment(self, voice: int = 0) -> bytes:
        return bytes(self._make(self._voices[voice], 1))

    def call(self, channels: int = 1) -> bytes:
        """A call that is short, since it is streamed in real time; the caller's channel is the last."""
        speech = {"net_speech_s": 11.0, "duration_s": 18.0}
        return bytes(
            self._make(
                self._voices[0], 2, fresh=True, channels=channels, customer_channel=channels - 1, **speech
            )
        )


Prepare = Callable[[Terminal, Recordings], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What the reader of a page has before the first block, and how its commands end."""

    prepare: Prepare
    exits: Mapping[str, int] = field(default_factory=dict)
    confirmed: tuple[str, ...] = ()
    """Commands that ask first, of which the page says so; a script answers them by `--yes`."""
    variables: Mapping[str, str] = field(default_factory=dict)


def nothing(_terminal: Terminal, _recordings: Recordings) -> None:
    """Prepare nothing."""


def manifest_of(*entries: tuple[str, str]) -> str:
    """A manifest of speakers with one recording each."""
    requests = [
        {
            "RequestId": str(number),
            "SpeakerId": speaker,
            "AudioSpecifications": [{"S3Uri": uri, "ChannelId": 0}],
        }
        for number, (speaker, uri) in enumerate(entries, 1)
    ]
    return json.dumps({"Version": "1.0", "SpeakerEnrollmentRequests": requests})


def readme(terminal: Terminal, recordings: Recordings) -> None:
    """Prepare the reader's recording and the manifest that the page shows."""
    manifest = next(
        one for one in blocks(REPOSITORY / "README.md") if "SpeakerEnrollmentRequests" in one.text
    )
    (terminal.folder / "manifest.json").write_text(manifest.text)
    (terminal.folder / "2024-07-15-ada.wav").write_bytes(recordings.enrollment())
    (terminal.folder / "call.wav").write_bytes(recordings.call())


def enrolled(terminal: Terminal, recordings: Recordings) -> None:
    """Prepare a domain with one enrolled speaker."""
    service = terminal.serve()
    domain_id = service.domain()
    bucket = service.data / "buckets" / "calls"
    bucket.mkdir(parents=True, exist_ok=True)
    (bucket / "one.wav").write_bytes(recordings.enrollment())
    (bucket / "one.json").write_text(manifest_of((SPEAKER, "s3://calls/one.wav")))
    job = service.start_job(domain_id, "s3://calls/one.json")
    assert service.ended_job(domain_id, job["JobId"])["JobStatus"] == "COMPLETED"
    terminal.known |= dict.fromkeys(("DOMAIN_ID", "DOMAIN", "<domain id>"), domain_id)
    terminal.known |= {"SPEAKER_ID": SPEAKER}


def deleted(terminal: Terminal, recordings: Recordings) -> None:
    """Prepare a speaker who was deleted after a backup."""
    enrolled(terminal, recordings)
    folder, service = terminal.folder, terminal.serve()
    backed_up = service.sonant("backup", str(folder / "sonant-2027-01-31.backup"), **PASSPHRASE)
    assert backed_up.code == 0, backed_up.err
    service.voice_id.delete_speaker(DomainId=terminal.known["DOMAIN_ID"], SpeakerId=SPEAKER)


def jobs(terminal: Terminal, recordings: Recordings) -> None:
    """Prepare a manifest of which one request fails."""
    service = terminal.serve()
    service.domain()
    jobs, results = service.data / "buckets" / "jobs", service.data / "buckets" / "results"
    jobs.mkdir(parents=True)
    results.mkdir()
    (jobs / "one.wav").write_bytes(recordings.enrollment())
    (jobs / "march.json").write_text(
        manifest_of((SPEAKER, "s3://jobs/one.wav"), ("another", "s3://jobs/absent.wav"))
    )


def calls(terminal: Terminal, recordings: Recordings) -> None:
    """Prepare two calls of one person."""
    terminal.serve().domain()
    (terminal.folder / "first-call.wav").write_bytes(recordings.enrollment())
    (terminal.folder / "second-call.wav").write_bytes(recordings.call(channels=2))


def upload(terminal: Terminal, recordings: Recordings) -> None:
    """Prepare a session, and the variables that the page names."""
    service = terminal.serve()
    domain_id = service.domain()
    service.own_client().start_session(DomainId=domain_id, SessionName="call-1", SpeakerId=SPEAKER)
    (terminal.folder / "call.wav").write_bytes(recordings.call())
    key = service.credentials
    values = {
        "ENDPOINT": service.url,
        "DOMAIN": domain_id,
        "KEY_ID": key.access_key,
        "SECRET": key.secret_key,
    }
    for name, value in values.items():
        terminal.run(Typed(command=f"export {name}='{value}'"))


def dry_run(terminal: Terminal, recordings: Recordings) -> None:
    """Prepare a manifest beside the reader and one in the bucket."""
    enrolled(terminal, recordings)
    bucket = terminal.serve().data / "buckets" / "calls"
    (bucket / "two.wav").write_bytes(recordings.enrollment(1))
    for folder in (terminal.folder, bucket):
        (folder / "calls.json").write_text(manifest_of(("another", "s3://calls/two.wav")))


def reporting(terminal: Terminal, _recordings: Recordings) -> None:
    """Prepare the policy that the page shows."""
    terminal.known["DOMAIN_ID"] = terminal.serve().domain()
    statement = {"Effect": "Allow", "Action": ["voiceid:Describe*", "voiceid:List*"], "Resource": "*"}
    (terminal.folder / "read-only.json").write_text(
        json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )


def consenting(terminal: Terminal, _recordings: Recordings) -> None:
    """Prepare a service with a domain, and the text that speakers are given."""
    terminal.serve().domain()
    (terminal.folder / "notice.txt").write_text("We recognize you by your voice.\n")


def served(terminal: Terminal, _recordings: Recordings) -> None:
    """Prepare a service with a domain."""
    terminal.known["DOMAIN_ID"] = terminal.serve().domain()


def audited(terminal: Terminal, _recordings: Recordings) -> None:
    """Prepare a trail with a few lines, and note the hash of the last."""
    service = terminal.serve()
    for number in range(3):
        service.domain(f"calls-{number}")
    found = re.search(r"last hash (\w+)", service.sonant("audit", "verify").out)
    assert found is not None
    terminal.known["54f97166…"] = found[1]


def backed_up(terminal: Terminal, _recordings: Recordings) -> None:
    """Prepare a service and a place for its copy."""
    terminal.serve().domain()
    terminal.known["/srv/new"] = str(terminal.folder / "new")


def initialized(terminal: Terminal, _recordings: Recordings) -> None:
    """Prepare an installation whose service does not run, and a credential as systemd passes it on."""
    credentials = terminal.folder / "credentials"
    credentials.mkdir(mode=0o700)
    (credentials / "sonant-keys").write_bytes(os.urandom(48))
    (credentials / "sonant-keys").chmod(0o400)
    terminal.settings["KEY_WRAPPING_CREDENTIAL"] = "sonant-keys"
    terminal.run(Typed(command=f"export CREDENTIALS_DIRECTORY={credentials}"))
    terminal.run(Typed(command="export SONANT_KEY_WRAPPING_PASSPHRASE='a passphrase of several words'"))
    terminal.run(Typed(command="sonant init --data sonant-data --region us-east-1 --account 000000000000"))


PASSPHRASE = {"SONANT_BACKUP_PASSPHRASE": "a passphrase of several words"}
SCENARIOS: dict[str, Scenario] = {
    "README.md": Scenario(prepare=readme),
    "docs/index.md": Scenario(prepare=nothing),
    "docs/audio-formats.md": Scenario(prepare=nothing),
    "docs/audit.md": Scenario(prepare=audited, confirmed=("sonant audit remove",)),
    "docs/backup.md": Scenario(prepare=backed_up, variables=PASSPHRASE),
    "docs/commands.md": Scenario(prepare=jobs, exits={"sonant job start": 3, "sonant job retry": 3}),
    "docs/coming-from-voice-id.md": Scenario(prepare=reporting, exits={"sonant access simulate": 1}),
    "docs/carriers.md": Scenario(prepare=upload),
    "docs/dry-run.md": Scenario(prepare=dry_run),
    "docs/erasure.md": Scenario(
        prepare=deleted, variables=PASSPHRASE, exits={"sonant speaker prove-deleted": 1}
    ),
    "docs/keys.md": Scenario(
        prepare=initialized,
        confirmed=("sonant key unwrap", "sonant key rotate alias/sonant --forget-earlier"),
    ),
    "docs/live-calls.md": Scenario(prepare=calls),
    "docs/privacy.md": Scenario(prepare=consenting, confirmed=("sonant consent withdraw",)),
    "docs/ray.md": Scenario(prepare=nothing),
    "docs/supply-chain.md": Scenario(prepare=nothing),
    "docs/templates.md": Scenario(prepare=served),
}
#: Pages that newcomers read first, whose blocks are run in every run of the tests.
FIRST = ("README.md", "docs/index.md")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    with ExitStack() as open_until:
        yield Terminal(folder=tmp_path, open_until=open_until)


def named(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def to_run(page: Path) -> list[Block]:
    return [block for block in console_blocks(page) if mark(block) is None]


def run_page(name: str, terminal: Terminal, recordings: Recordings) -> None:
    """Run the blocks of a page that have no mark, in their order."""
    scenario = SCENARIOS[name]
    terminal.exits, terminal.confirmed = scenario.exits, scenario.confirmed
    terminal.variables = dict(scenario.variables)
    scenario.prepare(terminal, recordings)
    for block in to_run(REPOSITORY / name):
        for step in steps(block):
            try:
                terminal.run(step)
            except AssertionError as fault:
                raise AssertionError(f"{block}: {fault}") from None


@pytest.mark.parametrize("name", FIRST)
def test_blocks_of_a_first_page_work_as_shown(name: str, terminal: Terminal, make_call, voices) -> None:
    run_page(name, terminal, Recordings(make_call, voices))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in FIRST])
def test_blocks_of_a_page_work_as_shown(name: str, terminal: Terminal, make_call, voices) -> None:
    run_page(name, terminal, Recordings(make_call, voices))


# --- every block is run or marked


@pytest.mark.parametrize("page", list(pages()), ids=named)
def test_every_console_block_is_run_or_says_why_not(page: Path) -> None:
    left = [str(block) for block in to_run(page)] if named(page) not in SCENARIOS else []
    assert left == []
    for block in console_blocks(page):
        kind, text = mark(block) or ("", "")
        if kind == "not run":
            assert text.startswith(REASONS), f"{block}: {text}"
        if kind == "run by":
            assert (REPOSITORY / text).is_file(), f"{block}: {text}"


def test_every_mark_stands_before_a_console_block() -> None:
    for page in REPOSITORY.glob("docs/*.md"):
        marked = [block for block in console_blocks(page) if mark(block)]
        assert len(re.findall(r"<!-- (?:not run: |run by )", page.read_text("utf-8"))) == len(marked), page


def test_every_scenario_has_a_block_to_run() -> None:
    assert [name for name in SCENARIOS if not to_run(REPOSITORY / name)] == []


# --- how outputs are compared


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("ACCEPT (score 100)", "ACCEPT (score 97)", True),
        ("ACCEPT (score 100)", "REJECT (score 97)", False),
        ("a  b\nc", "a b\n  c", True),
        ("job eUGaNcnl9WIIKCUJ0tiK5E", "job o9BvqbML53eBEkpjd211x3", True),
        ("job eUGaNcnl9WIIKCUJ0tiK5E", "job -", False),
        ("at 2027-01-31T10:00:00Z", "at 2026-12-01T02:00:00Z", True),
        ("begins ... ends", "begins\nwith much\nends", True),
        ("one line", "one line\nand another", False),
    ],
)
def test_output_is_compared_by_its_shape(shown: str, printed: str, same: bool) -> None:
    assert (shape(shown).fullmatch(printed) is not None) is same


def test_output_belongs_to_the_command_before_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ one \\\n    two  # why\nprinted\n$ three\n```\n")
    (block,) = blocks(page)
    assert [(step.command, step.printed) for step in steps(block)] == [
        ("one two", "printed\n"),
        ("three", ""),
    ]


def test_wrong_status_or_output_is_reported(terminal: Terminal) -> None:
    terminal.run(Typed(command="export PLACE=here"))
    terminal.run(Typed(command="echo $PLACE 12", printed="here 7\n"))
    with pytest.raises(AssertionError, match="ended with 1"):
        terminal.run(Typed(command="false"))
    with pytest.raises(AssertionError, match="printed"):
        terminal.run(Typed(command="echo there", printed="here\n"))
    assert os.listdir(terminal.folder) == [".exported"]
