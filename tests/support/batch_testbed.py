"""A whole Sonant in one process: a real store, real operations, a real runner with real worker processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from batch_values import ENROLLMENT, FINAL, REGISTRATION, KindOfJob, Outcome, entry, manifest
from sqlalchemy import func, select
from sqlite_template import put_tables
from strict_files import read_result
from strict_operations import judged
from watched_engine import WatchedEngine
from written_rows import write_rows

from sonant.assembly import installation, workers
from sonant.assembly import jobs as app_jobs
from sonant.jobs.entry import Role
from sonant.jobs.model_registry import model_calibration
from sonant.jobs.window import Engine
from sonant.operations import OPERATIONS
from sonant.operations.service import Caller, Service
from sonant.settings import Settings
from sonant.storage.crypto.vault import open_vault
from sonant.storage.database.schema import job_entries, jobs, speaker_keys, voiceprints
from sonant.storage.model_files import ModelFiles
from sonant.storage.objects.store import ObjectUri
from sonant.storage.objects.stores.local import LocalObjectStore
from sonant.storage.repositories import access, domains, fraud_voices, speakers, templates, watchlists
from sonant.storage.times import now as real_now


@dataclass(slots=True)
class Testbed:
    """One data folder and everything that works on it."""

    settings: Settings
    store: installation.Store
    service: Service
    engine: Engine
    names: Any = field(default_factory=count)
    kinds: dict[str, KindOfJob] = field(default_factory=dict)
    """The kinds of the jobs started here, by their ids."""

    @classmethod
    def open(
        cls,
        settings: Settings,
        *,
        clock: Callable[[], Any] = real_now,
        engine: Engine | None = None,
    ) -> Testbed:
        if settings.embedded:
            put_tables(settings.data / "sonant.db")
        store = installation.open_store(settings, create=True, clock=clock)
        installation.first_start(store)
        service = Service(
            settings=settings,
            database=store.database,
            keys_of=store.backends.keys,
            secret=store.secret,
            listener=workers.LocalListener(store),
            clock=clock,
            calibration_of=partial(model_calibration, ModelFiles(settings.data)),
            ledger=store.ledger,
        )
        assert isinstance(store.objects, LocalObjectStore)
        for bucket in ("calls", "jobs", "results"):
            store.objects.create_bucket(bucket)
        return cls(settings, store, service, engine or workers.local_engine(settings, settings.workers))

    def close(self) -> None:
        self.engine.close()
        self.store.database.close()

    def variant(self, *, clock: Callable[[], Any] = real_now, **changes: Any) -> Testbed:
        """Another testbed on the same data folder, with other settings; has its own worker processes."""
        other = Testbed.open(replace(self.settings, **changes), clock=clock)
        other.names, other.kinds = self.names, self.kinds
        return other

    # --- what users do

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        with self.store.database.read() as connection:
            principal = access.find_principal(connection, installation.user_arn(self.settings))
        assert principal is not None
        caller = Caller(principal=principal, region=self.settings.region)
        return judged(operation, OPERATIONS[operation](self.service, caller, request))

    def new_domain(self, name: str = "tests", key: str = installation.DEFAULT_ALIAS, **more: Any) -> str:
        answer = self.call(
            "CreateDomain", Name=name, ServerSideEncryptionConfiguration={"KmsKeyId": key}, **more
        )
        return str(answer["Domain"]["DomainId"])

    def put(self, uri: str, data: bytes, key: str | None = None) -> str:
        self.store.objects.write(ObjectUri.parse(uri), data, key)
        return uri

    def get(self, uri: str) -> bytes:
        return self.store.objects.read(ObjectUri.parse(uri), 1 << 30)

    def put_role(self, *statements: dict[str, Any]) -> str:
        """A role with these policy statements only."""
        arn = f"arn:aws:iam::{self.settings.account}:role/test-{next(self.names)}"
        policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        with self.store.database.write() as connection:
            access.put_principal(connection, arn, self.settings.account, [policy], real_now())
        return arn

    def start(
        self,
        domain_id: str,
        entries: Sequence[dict[str, Any]] | bytes = (),
        *,
        input_uri: str | None = None,
        output_uri: str = "s3://results/out",
        output_key: str | None = None,
        role: str | None = None,
        action: str | None = None,
        fraud: dict[str, Any] | None = None,
        name: str | None = None,
        manifest_key: str | None = None,
        kind: KindOfJob = ENROLLMENT,
        **config: Any,
    ) -> str:
        """`action`, `fraud` and any further member of the kind's configuration are sent when given."""
        if input_uri is None:
            data = entries if isinstance(entries, bytes) else manifest(entries, kind)
            input_uri = self.put(f"s3://jobs/{next(self.names)}/manifest.json", data, manifest_key)
        if action is not None:
            member = "ExistingEnrollmentAction" if kind is ENROLLMENT else "DuplicateRegistrationAction"
            config[member] = action
        if fraud is not None:
            config["FraudDetectionConfig"] = fraud
        answer = self.call(
            f"Start{kind.noun}",
            DomainId=domain_id,
            DataAccessRoleArn=role or installation.role_arn(self.settings),
            InputDataConfig={"S3Uri": input_uri},
            OutputDataConfig={"S3Uri": output_uri, **({"KmsKeyId": output_key} if output_key else {})},
            **{kind.config: config},
            **({"JobName": name} if name else {}),
        )
        assert answer["Job"]["JobStatus"] == "SUBMITTED"
        job_id = str(answer["Job"]["JobId"])
        self.kinds[job_id] = kind
        return job_id

    def describe(self, domain_id: str, job_id: str) -> dict[str, Any]:
        """The job as the wire shows it; what a job must always fulfil is checked here."""
        noun = self.kinds.get(job_id, ENROLLMENT).noun
        found = self.call(f"Describe{noun}", DomainId=domain_id, JobId=job_id)["Job"]
        job = {name: value for name, value in found.items() if value is not None}
        status, percent = job["JobStatus"], job["JobProgress"]["PercentComplete"]
        assert ("FailureDetails" in job) == (status == "FAILED")
        assert ("EndedAt" in job) == (status in FINAL)
        assert 0 <= percent <= 100
        assert percent == 100 or not status.startswith("COMPLETED")
        return job

    # --- what the runner does

    def runner(
        self,
        *,
        during: Mapping[int, Callable[[], object]] | None = None,
        one_by_one: bool = True,
        owner: str = "test",
        heartbeat: Callable[[], None] = lambda: None,
        engine: WatchedEngine | None = None,
        **parts: Any,
    ) -> Any:
        """A runner on this engine; `during`: what to do at the first task (0), at the n-th result. `parts`
        replace its own, see `RunnerParts`."""
        return app_jobs.build_runner(
            self.store,
            owner,
            heartbeat,
            parts=replace(app_jobs.runner_parts(self.store), **parts),
            engine=engine or self.watched(during, one_by_one=one_by_one),
        )

    def watched(
        self, during: Mapping[int, Callable[[], object]] | None = None, *, one_by_one: bool = True
    ) -> WatchedEngine:
        """This engine with something that happens while it works, see `runner`."""
        return WatchedEngine(self.engine, during or {}, one_by_one=bool(during) and one_by_one)

    def objects_of(self, role: Role) -> Any:
        """The object store as a role may use it."""
        return app_jobs.runner_parts(self.store).objects_of(role)

    def run(
        self, *, during: Mapping[int, Callable[[], object]] | None = None, one_by_one: bool = True
    ) -> None:
        assert self.runner(during=during, one_by_one=one_by_one).run_one()

    def enroll(
        self,
        domain_id: str,
        entries: Sequence[dict[str, Any]] | bytes = (),
        *,
        during: Mapping[int, Callable[[], object]] | None = None,
        **how: Any,
    ) -> Outcome:
        """Start a job, carry it to its end, and read what it left."""
        job_id = self.start(domain_id, entries, **how)
        self.run(during=during)
        return self.outcome(domain_id, job_id)

    def register(self, domain_id: str, entries: Sequence[dict[str, Any]] | bytes = (), **how: Any) -> Outcome:
        """`enroll` for fraudsters."""
        return self.enroll(domain_id, entries, kind=REGISTRATION, **how)

    def enroll_one(self, *files: Any, **how: Any) -> Any:
        """Enroll one new speaker in a domain of its own: the status, or the error's code and message."""
        outcome = self.enroll(self.new_domain(), [entry("r1", "customer-1", *files)], **how)
        return outcome.successes.get("r1") or outcome.errors["r1"]

    def outcome(self, domain_id: str, job_id: str) -> Outcome:
        """Check the rules that hold for every job that has ended, and read its result."""
        job = self.describe(domain_id, job_id)
        assert job["JobStatus"] in FINAL
        kind = self.kinds.get(job_id, ENROLLMENT)
        files = self.files_with(job_id)
        if job["JobStatus"] == "FAILED":
            assert files == [], "a job that failed leaves no file"
            return Outcome(job=job, result=None, kind=kind)
        assert len(files) == 1, files
        where = ObjectUri.parse(job["OutputDataConfig"]["S3Uri"])
        name = ObjectUri.parse(job["InputDataConfig"]["S3Uri"]).name
        result = read_result(self.get(str(where.child(job_id, name + ".out"))))
        assert list(result) == ["Version", "Errors", kind.successes]
        assert result["Version"] == "1.0"
        assert bool(result["Errors"]) == (job["JobStatus"] == "COMPLETED_WITH_ERRORS")
        with self.store.database.read() as connection:
            left = connection.execute(select(func.count()).where(job_entries.c.job_id == job_id)).scalar_one()
        assert left == 0, "entries of an ended job are kept"
        return Outcome(job=job, result=result, kind=kind)

    # --- what an operator could look at

    def files_with(self, part: str) -> list[Path]:
        """Files in the buckets whose path holds a text."""
        root = self.settings.data / "buckets"
        return [path for path in root.rglob("*") if path.is_file() and part in str(path.relative_to(root))]

    def execute(self, statement: str, **values: Any) -> int:
        """Execute a statement of SQL as if Sonant had written it."""
        with self.store.database.write() as connection:
            return write_rows(connection, statement, **values)

    def set_speaker_status(self, domain_id: str, customer_id: str, status: str) -> None:
        speaker = self.speakers(domain_id)[customer_id]
        changed = self.execute(
            "UPDATE speakers SET status = :status WHERE speaker_id = :id",
            status=status,
            id=speaker.speaker_id,
        )
        assert changed == 1

    def progress(self, job_id: str) -> tuple[str, int, int]:
        """(status, requests done, requests failed) as stored."""
        with self.store.database.read() as connection:
            row = connection.execute(
                select(jobs.c.status, jobs.c.entries_done, jobs.c.entries_failed).where(
                    jobs.c.job_id == job_id
                )
            ).one()
        return row.status, row.entries_done, row.entries_failed

    def speakers(self, domain_id: str) -> dict[str, speakers.Speaker]:
        """All speakers of a domain by the customer's id."""
        with self.store.database.read() as connection:
            domain = domains.find_by_id(connection, domain_id)
            assert domain is not None
            vault = open_vault(self.store.keys, domain_id, domain.arn, domain.data_key_wrapped)
            return {
                speaker.customer_id(vault): speaker
                for speaker in speakers.page(connection, domain_id, None, 10_000)
            }

    def voiceprints(self, domain_id: str, *, protected: bool = False) -> dict[str, Any]:
        """Vectors by the customer's id, in the voice model's space or `protected` as they are stored.

        Checks that every enrolled speaker has exactly one that opens.
        """
        found: dict[str, Any] = {}
        with self.store.database.read() as connection:
            domain = domains.find_by_id(connection, domain_id)
            assert domain is not None
            vault = open_vault(self.store.keys, domain_id, domain.arn, domain.data_key_wrapped)
            for speaker in speakers.page(connection, domain_id, None, 10_000):
                rows, keys = (
                    connection.execute(
                        select(func.count()).where(table.c.speaker_id == speaker.speaker_id)
                    ).scalar_one()
                    for table in (voiceprints, speaker_keys)
                )
                assert keys == 1
                assert rows in {"ENROLLED": (1,), "OPTED_OUT": (0,)}.get(speaker.status, (0, 1))
                stored = speakers.load_sample(connection, vault, speaker)
                if stored is not None:
                    spaces = templates.open_spaces(connection, vault.templates)
                    vector = (stored if protected else spaces.original(stored)).vector
                    assert vector.shape == (256,)
                    assert abs(float(np.linalg.norm(vector)) - 1) < 1e-4
                    found[speaker.customer_id(vault)] = vector
        return found

    def fraudsters(self, domain_id: str, *, protected: bool = False) -> dict[str, Any]:
        """Vectors of fraudsters by id, in the order of registration; `protected` as in `voiceprints`.

        Checks that every one opens.
        """
        with self.store.database.read() as connection:
            domain = domains.find_by_id(connection, domain_id)
            assert domain is not None
            vault = open_vault(self.store.keys, domain_id, domain.arn, domain.data_key_wrapped)
            known = [
                x.fraudster_id for x in watchlists.page_fraudsters(connection, domain_id, None, None, 10_000)
            ]
            spaces = templates.open_spaces(connection, vault.templates)
            voices = dict(fraud_voices.load(connection, vault, spaces, known))
            assert set(voices) == set(known), "a fraudster without a voice"
            order = fraud_voices.ids(connection, domain_id, None)
        return {key: (voices[key] if protected else spaces.original(voices[key])).vector for key in order}

    def default_list(self, domain_id: str) -> str:
        answer = self.call("DescribeDomain", DomainId=domain_id)
        return str(answer["Domain"]["WatchlistDetails"]["DefaultWatchlistId"])

    def kept_audio(self, domain_id: str) -> dict[str, bytes | None]:
        """The opened recordings that voiceprints were made from, by the customer's id."""
        with self.store.database.read() as connection:
            domain = domains.find_by_id(connection, domain_id)
            assert domain is not None
            vault = open_vault(self.store.keys, domain_id, domain.arn, domain.data_key_wrapped)
            found: dict[str, bytes | None] = {}
            for speaker in speakers.page(connection, domain_id, None, 10_000):
                sealed = connection.execute(
                    select(voiceprints.c.audio_sealed).where(voiceprints.c.speaker_id == speaker.speaker_id)
                ).scalar()
                opened = None if sealed is None else speaker.seal(vault).open("audio", sealed)
                found[speaker.customer_id(vault)] = opened
            return found
