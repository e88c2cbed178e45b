"""What a speaker enrollment job does with its requests: look up, listen if need be, decide, store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from sonant.events import counters
from sonant.events.documents import ErrorInfo, Event, speaker_event
from sonant.events.outbox import Outbox
from sonant.ids import new_generated_id
from sonant.jobs import result
from sonant.jobs.decide import Config, after_listening, before_listening
from sonant.jobs.entry import Prepared, Role, Task
from sonant.jobs.faults import Refusal
from sonant.jobs.manifest import AudioFile, BadRequest, EnrollmentRequest, Entry
from sonant.settings import Settings
from sonant.store import jobs, speakers
from sonant.store.database.engine import Database
from sonant.store.domains import Domain
from sonant.store.vault import Vault


@dataclass(slots=True)
class Item:
    """One request in work. `decided` is what needed no listening."""

    position: int
    mark: bytes | None
    entry: Entry


class EnrollmentWork:
    """One job's requests; see `window.Work`. `hold` raises when the job is no longer this runner's."""

    def __init__(
        self,
        *,
        job: jobs.Job,
        role: Role,
        settings: Settings,
        database: Database,
        open_domain: Callable[[Connection], tuple[Domain, Vault]],
        hold: Callable[[Connection], None],
        clock: Callable[[], datetime],
        outbox: Outbox,
    ) -> None:
        self._job, self._role, self._settings, self._outbox = job, role, settings, outbox
        self._database, self._open_domain, self._clock = database, open_domain, clock
        self._hold = hold
        fraud = job.config["FraudDetectionConfig"]
        self._config = Config(
            overwrite=job.config["ExistingEnrollmentAction"] == "OVERWRITE",
            fraud_action=fraud["FraudDetectionAction"],
            risk_threshold=fraud["RiskThreshold"],
        )

    def fetch(self, start: int, limit: int) -> list[Item]:
        with self._database.read() as connection:
            _, vault = self._open_domain(connection)
            return [
                self._item(vault, position, sealed)
                for position, sealed in jobs.open_entries(connection, self._job.job_id, start, limit)
            ]

    def begin(self, item: Item) -> Task | None:
        if isinstance(item.entry, BadRequest):
            return None
        with self._database.read() as connection:
            status = speakers.status_by_hash(connection, self._job.domain_id, item.mark or b"")
        if before_listening(status, self._config) is not None:
            return None
        return Task(
            ticket=item.position,
            role=self._role,
            audio=item.entry.audio,
            need_s=self._settings.enrollment.net_speech_s,
            keep_audio=self._settings.audio.keep,
        )

    def commit(self, done: Sequence[tuple[Item, Prepared | Refusal | None]]) -> None:
        with self._database.write() as connection:
            self._hold(connection)
            domain, vault = self._open_domain(connection)
            present = speakers.count(connection, domain.domain_id) if self._may_grow(done) else 0
            outcomes, lines = [], []
            for item, heard in done:
                line, grown = self._settle(connection, vault, item, heard, present)
                present += grown
                failed = "ErrorCode" in line
                sealed = vault.seal_json("job outcome", f"{self._job.job_id}/{item.position}", line)
                outcomes.append((item.position, sealed, failed))
                lines.append(line)
            jobs.record(connection, self._job.job_id, outcomes)
            counters.add(connection, work_done(lines, [heard for _, heard in done]))
            told = (self._event(domain, line) for line in lines)
            self._outbox.put(connection, told, self._clock())

    def _settle(
        self,
        connection: Connection,
        vault: Vault,
        item: Item,
        heard: Prepared | Refusal | None,
        present: int,
    ) -> tuple[dict[str, Any], int]:
        """Decide one request and store its voiceprint; the result line, and by how many speakers we grew."""
        entry = item.entry
        if isinstance(entry, BadRequest):
            return result.error_line(entry.request_id, 400, entry.message), 0
        speaker = speakers.find(connection, vault, self._job.domain_id, entry.speaker_id)
        status = None if speaker is None else speaker.status
        if heard is None:
            outcome = before_listening(status, self._config) or Refusal(
                409, "the speaker was deleted or changed while the job ran; submit the request again"
            )
        else:
            outcome = after_listening(
                status,
                self._config,
                heard,
                speakers_present=present,
                quota=self._settings.quotas.speakers_per_domain,
            )
        if isinstance(outcome, Refusal):
            return result.error_line(entry.request_id, outcome.code, outcome.message), 0
        grown = 0
        speaker_id = new_generated_id() if speaker is None else speaker.speaker_id
        if isinstance(heard, Prepared) and outcome != "DUPLICATE_SKIPPED":
            now = self._clock()
            if speaker is None:
                grown = 1
                seal = speakers.add(
                    connection,
                    vault,
                    domain_id=self._job.domain_id,
                    speaker_id=speaker_id,
                    customer_id=entry.speaker_id,
                    status="PENDING",
                    now=now,
                )
            else:
                seal = speaker.seal(vault)
            voiceprint = speakers.Voiceprint(
                model_id=heard.model_id,
                vector=heard.vector,
                audio=heard.audio,
                net_speech_s=heard.net_speech_s,
            )
            speakers.enroll(connection, seal, speaker_id, voiceprint, now)
        return result.enrollment_line(entry.request_id, speaker_id, entry.speaker_id, outcome), grown

    def _event(self, domain: Domain, line: dict[str, Any]) -> Event:
        error = None
        if "ErrorCode" in line:
            error = ErrorInfo.of_code(line["ErrorCode"], line["ErrorMessage"])
        return speaker_event(
            domain,
            "ENROLL_SPEAKER",
            speaker_id=line.get("GeneratedSpeakerId"),
            error=error,
            source="BATCH",
            source_id=self._job.job_id,
            enrollment_status=line.get("EnrollmentStatus"),
        )

    @staticmethod
    def _may_grow(done: Sequence[tuple[Item, Prepared | Refusal | None]]) -> bool:
        return any(isinstance(heard, Prepared) for _, heard in done)

    def _item(self, vault: Vault, position: int, sealed: bytes) -> Item:
        value = vault.open_json("job request", f"{self._job.job_id}/{position}", sealed)
        if "bad" in value:
            bad = BadRequest(request_id=value["id"], message=value["bad"])
            return Item(position=position, mark=None, entry=bad)
        entry = EnrollmentRequest(
            request_id=value["id"],
            speaker_id=value["speaker"],
            audio=tuple(AudioFile(s3_uri=uri, channel=channel) for uri, channel in value["audio"]),
        )
        return Item(position=position, mark=vault.lookup(entry.speaker_id), entry=entry)

    @staticmethod
    def seal_request(vault: Vault, job_id: str, position: int, entry: Entry) -> bytes:
        """The stored form of one line of the manifest."""
        if isinstance(entry, BadRequest):
            value: dict[str, Any] = {"id": entry.request_id, "bad": entry.message}
        else:
            audio = [[item.s3_uri, item.channel] for item in entry.audio]
            value = {"id": entry.request_id, "speaker": entry.speaker_id, "audio": audio}
        return vault.seal_json("job request", f"{job_id}/{position}", value)

    @staticmethod
    def open_outcomes(
        vault: Vault, job_id: str, rows: Iterable[tuple[int, bytes]]
    ) -> Iterator[dict[str, Any]]:
        for position, sealed in rows:
            yield vault.open_json("job outcome", f"{job_id}/{position}", sealed)


def work_done(
    lines: Iterable[dict[str, Any]], heard: Iterable[Prepared | Refusal | None]
) -> dict[tuple[str, str], float]:
    """What a commit adds to the counters."""
    found: Counter[tuple[str, str]] = Counter()
    for line in lines:
        outcome = line.get("EnrollmentStatus") or f"ERROR_{line['ErrorCode']}"
        found[counters.OUTCOMES, outcome] += 1
    amounts: dict[tuple[str, str], float] = dict(found)
    prepared = [one for one in heard if isinstance(one, Prepared)]
    amounts[counters.AUDIO, ""] = sum(one.heard_s for one in prepared)
    amounts[counters.SPEECH, ""] = sum(one.net_speech_s for one in prepared)
    amounts[counters.COMPUTE, ""] = sum(one.compute_s for one in prepared)
    amounts[counters.INFERENCE, ""] = sum(one.inference_s for one in prepared)
    return amounts
