"""`sonant manifest check`: a dry run of an enrollment job without a service, which writes only reports."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import IO, Any

import click
import orjson
from sqlalchemy import Connection

from sonant.assembly.installation import Store, open_store, role_arn
from sonant.assembly.jobs import manifest_rules
from sonant.assembly.worker_process import granted_objects
from sonant.assembly.workers import local_engine
from sonant.cli.context import CliContext, Group, pass_cli, table
from sonant.errors import DomainNotActive, SetupError, StoreError
from sonant.jobs.decide import ENROLLS, Config, OutcomePredictor, enrollment_state
from sonant.jobs.entry import Role, Task, TaskResult, recurring_voice_agents
from sonant.jobs.faults import JobFault, code_of
from sonant.jobs.fraud import Risk
from sonant.jobs.fraud_preview import EntryRef, FraudPreview
from sonant.jobs.job_type import EntryResult, WorkItem
from sonant.jobs.manifest import BadRequest, EnrollmentRequest, Entry, read_manifest
from sonant.jobs.model_registry import model_calibration
from sonant.jobs.report import Report, json_report, make_report
from sonant.jobs.report_line import ERROR, report_line
from sonant.jobs.report_page import OUTCOMES, page, party_text
from sonant.jobs.result import error_line
from sonant.jobs.window import Window
from sonant.storage.crypto.template_spaces import temporary_spaces
from sonant.storage.crypto.vault import Vault
from sonant.storage.model_files import ModelFiles
from sonant.storage.objects.store import ObjectReader, ObjectUri
from sonant.storage.opening import open_active_domain
from sonant.storage.repositories import domains, speakers
from sonant.storage.repositories.access import policy_texts
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.jobs import DRY_RUN
from sonant.voice.models import shipped_encoder_id

#: Exit codes: every request is likely to succeed; some are not; there is nothing to check.
FINE, SOME_FAIL, BROKEN = 0, 1, 2
#: Requests shown in the terminal; of longer manifests, those first that need a look.
MOST_ROWS = 200
_MOST_CHARACTERS = 60
_HEADERS = ("#", "REQUEST", "SPEAKER", "SPEECH", "SNR", "BAND", "LIKELY OUTCOME")
_CHUNK_BYTES = 1 << 16


manifest = Group("manifest", help="Find out what a job would make of a manifest.")


@manifest.command("check")
@click.argument("manifest_uri", metavar="MANIFEST")
@click.option("--role", metavar="ARN", help="Read the recordings as this role [default: the first role].")
@click.option("--domain", "domain_id", metavar="ID", help="Consider who is enrolled in this domain.")
@click.option("--overwrite", is_flag=True, help="As a job with ExistingEnrollmentAction OVERWRITE.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the whole report as JSON.")
@click.option("--html", "html_file", type=click.Path(path_type=Path), help="Write it as a page.")
@pass_cli
def check(
    cli: CliContext,
    manifest_uri: str,
    role: str | None,
    domain_id: str | None,
    overwrite: bool,
    json_file: Path | None,
    html_file: Path | None,
) -> None:
    """Process every recording of MANIFEST, a file or s3:// URI, and show what an enrollment job would do.

    No speaker is enrolled. Exits 0 when every request is likely to succeed, 1 when some are not, 2 when the
    manifest is broken.
    """
    settings = cli.settings()
    store = open_store(settings)
    try:
        acting = _assume(store, role or role_arn(settings), domain_id)
        entries = _read(store, acting, manifest_uri)
        work = Check(store, acting, entries, overwrite=overwrite, domain_id=domain_id)
    except JobFault as fault:
        click.echo(f"sonant: {fault.message}", err=True)
        sys.exit(BROKEN)
    engine = local_engine(settings, settings.workers)
    try:
        with cli.progress_bar(length=len(entries), label="processing") as bar:
            work.done = bar.update
            Window(work, engine, lambda: None).drain()
    finally:
        engine.close()
    made = make_report(work.lines)
    for file, chunks in ((json_file, json_report), (html_file, _page)):
        if file is not None:
            _write(file, chunks(made))
    if cli.as_json:
        for chunk in json_report(made):
            click.echo(chunk, nl=False)
    else:
        click.echo(as_text(made))
    sys.exit(SOME_FAIL if made.summary["LikelyToFail"] else FINE)


class Check:
    """The work of `jobs.window.Window` for a dry run; results take about 1.5 KiB a recording."""

    def __init__(
        self, store: Store, role: Role, entries: Sequence[Entry], *, overwrite: bool, domain_id: str | None
    ) -> None:
        """Raises JobFault for a domain that is not there or cannot be opened."""
        settings = store.settings
        self._store, self._role, self._entries = store, role, entries
        self._need_s = settings.enrollment.net_speech_s
        config = Config(
            overwrite=overwrite, fraud_action="FAIL", risk_threshold=settings.enrollment.risk_threshold
        )
        self._risk_threshold = config.risk_threshold
        self._predictor = OutcomePredictor(config, settings.quotas.speakers_per_domain)
        self._domain_id, self._replays = domain_id, settings.fraud.replay_recordings
        files = ModelFiles(settings.data)
        self._fraud_preview = FraudPreview(None, self._replays, partial(model_calibration, files))
        self._model_id = None if domain_id is None else _open_domain(store, domain_id)[0].model_id
        self._present = 0
        if domain_id is not None:
            with store.database.read() as connection:
                self._present = speakers.count(connection, domain_id)
        self._lines: list[bytes] = []
        self._spaces = temporary_spaces()
        self.done: Callable[[int], object] = lambda count: None

    def fetch(self, start: int, limit: int) -> list[WorkItem]:
        numbered = enumerate(self._entries[start : start + limit], start)
        return [WorkItem(position=position, dedup_key=None, entry=entry) for position, entry in numbered]

    def tasks(self, items: Sequence[WorkItem]) -> list[Task | None]:
        return [self._task(item) for item in items]

    def _task(self, item: WorkItem) -> Task | None:
        if isinstance(item.entry, BadRequest):
            return None
        return Task(
            task_id=item.position,
            role=self._role,
            audio=item.entry.audio,
            need_s=self._need_s,
            keep_audio=False,
            inspect=True,
            detect=True,
            risk_threshold=self._risk_threshold,
            fingerprint=self._replays > 0,
            model_id=self._model_id,
            recurring_voice=recurring_voice_agents(item.entry),
            second_voice=self._store.settings.enrollment.second_voice,
        )

    def commit(self, done: Sequence[tuple[WorkItem, EntryResult]]) -> float:
        self._lines += [orjson.dumps(line) for line in self._predict(done)]
        self.done(len(done))
        return 0.0  # nobody waits for it

    def lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Read positions and report lines in manifest order."""
        return ((position, orjson.loads(line)) for position, line in enumerate(self._lines))

    def _predict(self, done: Sequence[tuple[WorkItem, EntryResult]]) -> Iterator[dict[str, Any]]:
        if self._domain_id is None:
            for item, result in done:
                yield self._line(item.entry, result, None, None)
            return
        domain, vault = _open_domain(self._store, self._domain_id)
        with self._store.database.read() as connection:
            voices = {item.entry.request_id: result for item, result in done}
            risks = self._fraud_preview.risks(connection, domain, vault, voices)
            for item, result in done:
                risk = risks.get(item.entry.request_id)
                yield self._line(item.entry, result, risk, (connection, domain, vault))

    def _line(
        self,
        entry: Entry,
        result: EntryResult,
        risk: Risk | None,
        opened: tuple[Connection, Domain, Vault] | None,
    ) -> dict[str, Any]:
        """Make the report line of an entry; `opened` is the domain, if one is named."""
        if isinstance(entry, BadRequest):
            return error_line(entry.request_id, 400, entry.message)
        assert isinstance(entry, EnrollmentRequest)
        dedup_key, status, entry_ref = entry.speaker_id.encode(), None, None
        if opened is not None:
            connection, domain, vault = opened
            speaker = speakers.find(connection, vault, domain.domain_id, entry.speaker_id)
            speaker_id = None if speaker is None else speaker.speaker_id
            stored = speakers.find_status(connection, domain.domain_id, vault.lookup(entry.speaker_id))
            status = enrollment_state(stored, self._model_id or shipped_encoder_id())
            entry_ref = EntryRef(
                connection=connection, vault=vault, domain_id=domain.domain_id, speaker_id=speaker_id
            )
        result = self._fraud_preview.with_risks(result, dedup_key, risk, entry_ref)
        assert result is not None
        outcome = self._predictor.predict(dedup_key, status, result, speakers_present=self._present)
        self._predictor.record(dedup_key, status, outcome)
        if outcome in ENROLLS and isinstance(result, TaskResult) and result.fingerprint is not None:
            self._fraud_preview.accept(dedup_key, result.fingerprint)
        return report_line(entry, result, outcome, self._need_s, self._spaces)


def as_text(made: Report) -> str:
    """Write the report for a terminal: a table, then the summary."""
    summary = made.summary
    every = summary["Requests"] <= MOST_ROWS
    rows: list[tuple[str, ...]] = []
    listed = 0
    for line in made.lines():
        if every or line["LikelyOutcome"] == ERROR or line["Warnings"]:
            listed += 1
            if len(rows) < MOST_ROWS:
                rows += _rows(line)
    parts = [table(rows, _HEADERS)] if rows else []
    if not every:
        parts.append(f"{listed} of {summary['Requests']} requests need a look; --json and --html list all.")
    parts.append(
        f"{summary['Requests']} requests: {summary['LikelyToSucceed']} likely to succeed, "
        f"{summary['LikelyToFail']} likely to fail"
    )
    if summary["VoicesUnderSeveralIds"]:
        parts.append(
            f"{summary['VoicesUnderSeveralIds']} sound like a voice under another speaker id "
            f"(pairs so alike by chance: {summary['PairsByChance']:g})"
        )
    if summary["SpeakersWithSeveralVoices"]:
        parts.append(
            f"{summary['SpeakersWithSeveralVoices']} sound unlike another request of the same speaker id"
        )
    return "\n\n".join(parts)


def _rows(line: dict[str, Any]) -> list[tuple[str, ...]]:
    """Make one row for the request, and one for each warning."""
    outcome = OUTCOMES.get(line["LikelyOutcome"], line["LikelyOutcome"])
    if line["LikelyOutcome"] == ERROR:
        outcome += f": {line['ErrorCode']} {line['ErrorMessage']}"
    recordings = line.get("Recordings", ())
    ratios = [one["SnrDb"] for one in recordings if "SnrDb" in one]
    bands = [one["BandHz"] for one in recordings if "BandHz" in one]
    speech = line.get("NetSpeechSeconds")
    first = (
        str(line["Number"]),
        _shown(line["RequestId"])[:_MOST_CHARACTERS],
        _shown(line.get("SpeakerId", ""))[:_MOST_CHARACTERS],
        "" if speech is None else f"{speech:.1f} s",
        f"{min(ratios):.0f} dB" if ratios else "",
        f"{min(bands) / 1000:.1f} kHz" if bands else "",
        _shown(outcome),
    )
    below = [
        f"recording {number}: {party_text(one['Parties'])}"
        for number, one in enumerate(recordings, 1)
        if "Parties" in one
    ]
    return [first, *[("", "", "", "", "", "", f"  {_shown(text)}") for text in [*below, *line["Warnings"]]]]


def _shown(text: str) -> str:
    """Escape a manifest's text for a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _page(made: Report) -> Iterator[bytes]:
    return page(made.summary, made.lines())


def _assume(store: Store, arn: str, domain_id: str | None) -> Role:
    """Give the rights of a role. Raises JobFault."""
    with store.database.read() as connection:
        policies = () if store.settings.assumes_roles else policy_texts(connection, arn)
        domain = None if domain_id is None else domains.find_by_id(connection, domain_id)
    if policies is None:
        raise JobFault(403, f"the role {arn} does not exist; `sonant access role list` shows those that do")
    if domain is None:
        return Role(arn=arn, policies=policies, account_id=store.settings.account)
    return Role(arn=arn, policies=policies, domain_arn=domain.arn, account_id=domain.account_id)


def _open_domain(store: Store, domain_id: str) -> tuple[Domain, Vault]:
    """Open an active domain. Raises JobFault."""
    try:
        with store.database.read() as connection:
            return open_active_domain(connection, store.backends.keys, domain_id)
    except DomainNotActive:
        raise JobFault(404, f"there is no active domain {_shown(domain_id)}") from None
    except StoreError as fault:
        raise JobFault(403, f"the domain's key cannot be used: {fault}") from None


def _read(store: Store, role: Role, manifest: str) -> list[Entry]:
    """Read the whole manifest. Raises JobFault, as a job would fail with it."""
    rules = manifest_rules(store.settings, DRY_RUN)
    try:
        with _opened(store, role, manifest) as stream:
            return list(read_manifest(iter(lambda: stream.read(_CHUNK_BYTES), b""), rules))
    except StoreError as fault:
        raise JobFault(code_of(fault), f"the manifest cannot be read: {fault}") from None
    except OSError as fault:
        raise JobFault(404, f"the manifest {manifest} cannot be read: {fault.strerror}") from None


def _opened(store: Store, role: Role, manifest: str) -> AbstractContextManager[ObjectReader | IO[bytes]]:
    if manifest.startswith("s3://"):
        return granted_objects(store.backends, role).open(ObjectUri.parse(manifest))
    return Path(manifest).open("rb")


def _write(file: Path, chunks: Iterator[bytes]) -> None:
    """Write a file under another name until it is whole. Raises SetupError."""
    partial = file.with_name(file.name + ".part")
    try:
        with partial.open("wb") as target:
            for chunk in chunks:
                target.write(chunk)
        partial.replace(file)
    except OSError as fault:
        raise SetupError(f"{file} cannot be written: {fault.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
