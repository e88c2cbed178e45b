"""Fraudster registration jobs: listen, look for the same voice in the whole domain, decide, store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import Connection

from sonant.errors import quota_text
from sonant.events.documents import ErrorInfo, Event, batch_registration_event, fraudster_event
from sonant.ids import new_generated_id
from sonant.jobs import result
from sonant.jobs.calibration_cache import CalibrationCache
from sonant.jobs.entry import Prepared, Task
from sonant.jobs.faults import Refusal
from sonant.jobs.fraudster_gallery import FraudsterGallery, Sample
from sonant.jobs.job_type import Heard, Item, JobContext, Lines, Outcome
from sonant.jobs.manifest import Request
from sonant.jobs.states import Status
from sonant.storage.crypto.vault import Vault
from sonant.storage.objects.store import ObjectUri
from sonant.storage.repositories import fraud_voices, jobs, watchlists
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.speakers import Voiceprint
from sonant.voice.risk import fraudster_similarity
from sonant.voice.search import Match


class RegistrationKind:
    """See `kind.Kind`."""

    name = jobs.REGISTRATION

    def processor(self, context: JobContext) -> RegistrationDecider:
        return RegistrationDecider(context)

    def result_files(self, output: ObjectUri, lines: Lines) -> Iterable[tuple[ObjectUri, Iterator[bytes]]]:
        errors, successes = ((line for _, line in lines(failed)) for failed in (True, False))
        yield output, result.result_file(errors, successes, "SuccessfulRegistrations")

    def told(self, domain: Domain, job: jobs.Job, status: Status, error: ErrorInfo | None) -> Event:
        return batch_registration_event(domain, job, status, error)


class RegistrationDecider:
    """See `kind.Decider`."""

    def __init__(self, context: JobContext) -> None:
        config = context.job.config
        self.context = context
        self.skip_duplicates = config["DuplicateRegistrationAction"] == "SKIP"
        self.threshold: int = config["FraudsterSimilarityThreshold"]
        self.watchlist_id: str | None = next(iter(config.get("WatchlistIds", ())), None)
        self.gallery = FraudsterGallery(context.job.domain_id, None)

    def dedup_key(self, vault: Vault, request: Request) -> bytes | None:
        return None

    def task(self, item: Item) -> Task | None:
        return self.context.task(item, self.context.settings.registration.net_speech_s)

    def batch(
        self, connection: Connection, domain: Domain, vault: Vault, done: Sequence[tuple[Item, Heard]]
    ) -> RegistrationSitting:
        return RegistrationSitting(self, connection, domain, vault, done)


class RegistrationSitting:
    """See `kind.Sitting`. A voice is compared with those registered before it in the same sitting, too."""

    def __init__(
        self,
        processor: RegistrationDecider,
        connection: Connection,
        domain: Domain,
        vault: Vault,
        done: Sequence[tuple[Item, Heard]],
    ) -> None:
        self._processor, self._context = processor, processor.context
        self._connection, self._domain, self._vault = connection, domain, vault
        self._scales = CalibrationCache(connection, domain.domain_id, self._context.calibration_of)
        self._watchlist_id = processor.watchlist_id or domain.default_watchlist_id
        self._new: dict[str, tuple[Sample, int]] = {}  # registered in this sitting: voice, version
        self._nearest: dict[str, Match | None] = {}  # by request id, of those known before it
        # Nobody else's registration may come between the comparison and the commit.
        version = fraud_voices.version(connection, domain.domain_id, lock=True)
        if processor.skip_duplicates:
            processor.gallery.follow(connection, vault, version)
            heard = {item.entry.request_id: _sample(one) for item, one in done if isinstance(one, Prepared)}
            self._nearest = dict(zip(heard, processor.gallery.nearest(list(heard.values())), strict=True))

    def settle(self, request: Request, heard: Heard) -> Outcome:
        if not isinstance(heard, Prepared):
            return Outcome.refused(request.request_id, heard or Refusal(500, "the recording was not heard"))
        if self._processor.skip_duplicates and (found := self._duplicate(request, heard)):
            fraudster_id, score = found
            line = result.registration_line(request.request_id, fraudster_id, "DUPLICATE_SKIPPED", score)
            return Outcome(line=line, label="DUPLICATE_SKIPPED")
        refusal = self._no_room()
        if refusal is not None:
            return Outcome.refused(request.request_id, refusal)
        fraudster_id = self._register(heard)
        line = result.registration_line(request.request_id, fraudster_id, "NEW_REGISTRATION", None)
        return Outcome(line=line, label="NEW_REGISTRATION")

    def events(self, outcome: Outcome) -> Sequence[Event]:
        fraudster_id = outcome.line.get("GeneratedFraudsterId")
        lists: tuple[str, ...] = (self._watchlist_id,)
        if outcome.label == "DUPLICATE_SKIPPED" and fraudster_id is not None:
            known = watchlists.find_fraudster(self._connection, self._domain.domain_id, fraudster_id)
            lists = known.watchlist_ids if known is not None else ()
        registered = fraudster_event(
            self._domain,
            "REGISTER_FRAUDSTER",
            fraudster_id=fraudster_id,
            watchlist_ids=lists,
            error=outcome.error,
            source="BATCH_REGISTRATION",
            source_id=self._context.job.job_id,
            registration_status=outcome.line.get("RegistrationStatus"),
        )
        return (registered,)

    def committed(self) -> None:
        if self._processor.skip_duplicates:
            for fraudster_id, (sample, version) in self._new.items():
                self._processor.gallery.add(fraudster_id, sample, version)

    def _duplicate(self, request: Request, heard: Prepared) -> tuple[str, int] | None:
        """Who is the same as this one, and the score; None for a voice that is new."""
        sample = _sample(heard)
        best = self._nearest[request.request_id]
        new = {key: one.array for key, (one, _) in self._new.items() if one.model_id == sample.model_id}
        for key, vector in new.items():
            similarity = float(vector.dot(sample.array))
            if best is None or similarity > best.similarity:
                best = Match(key=key, similarity=similarity)
        if best is None:
            return None
        known = self._processor.gallery.size(sample.model_id) + len(new)
        scale = self._scales.of(sample.model_id)
        tail = scale.tail(heard.net_speech_s, heard.snr_db, highpass_300hz=heard.highpass_300hz)
        score = fraudster_similarity(best.similarity, known, tail)
        return (best.key, score) if score >= self._processor.threshold else None

    def _no_room(self) -> Refusal | None:
        if watchlists.find(self._connection, self._domain.domain_id, self._watchlist_id) is None:
            return Refusal(404, "the watchlist was deleted while the job ran")
        limit = self._context.settings.quotas.fraudsters_per_watchlist
        if watchlists.size(self._connection, self._watchlist_id) >= limit:
            return Refusal(402, quota_text("watchlist", limit, "fraudsters"))
        return None

    def _register(self, heard: Prepared) -> str:
        fraudster_id = new_generated_id()
        fraud_voices.register(
            self._connection,
            self._vault,
            domain_id=self._domain.domain_id,
            fraudster_id=fraudster_id,
            watchlist_id=self._watchlist_id,
            voiceprint=Voiceprint(
                model_id=heard.model_id,
                vector=heard.vector,
                audio=heard.audio,
                net_speech_s=heard.net_speech_s,
                snr_db=heard.snr_db,
            ),
            now=self._context.clock(),
        )
        version = fraud_voices.version(self._connection, self._domain.domain_id)
        self._new[fraudster_id] = (_sample(heard), version)
        return fraudster_id


def _sample(heard: Prepared) -> Sample:
    return Sample(model_id=heard.model_id, vector=heard.vector)
