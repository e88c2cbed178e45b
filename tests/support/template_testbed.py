"""A domain with a voice in every place that stores embeddings, and ways to look for open ones."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from made_samples import made_result, made_sample
from numpy.typing import NDArray
from sessions_testbed import store_speech, written
from sqlalchemy import event, select
from voices_testbed import enroll, like

from sonant.assembly.template_renewal import build_renewer
from sonant.ids import new_generated_id, new_id
from sonant.jobs.entry import Role
from sonant.jobs.inspect import InspectionResult
from sonant.jobs.job_type import JobContext
from sonant.jobs.manifest import EnrollmentRequest
from sonant.jobs.types.dry_run import DryRunProcessor
from sonant.jobs.voiceprints import store_voiceprint
from sonant.storage.crypto import sealing
from sonant.storage.crypto import vault as vaults
from sonant.storage.database.schema import template_keys
from sonant.storage.repositories import (
    domains,
    fraud_voices,
    jobs,
    shadow_voiceprints,
    speakers,
    template_rows,
    templates,
)
from sonant.voice.calibration.file import calibration_of
from sonant.voice.models import load_models

OTHER_MODEL = "other-model"
PARTS = (0.9, 0.8)
"""How alike the parts of a call are to its voice."""


def unprotected_domain(testbed: Any, monkeypatch: Any) -> str:
    """Create a domain as a release without template spaces did."""
    with monkeypatch.context() as earlier:
        earlier.setattr(templates, "create_first", lambda *_: None)
        return str(testbed.new_domain())


def fill(testbed: Any, domain_id: str, voices: NDArray[np.float32]) -> None:
    """Store the first voice as a speaker's, a fraudster's, and a caller's, and both as shadows.

    The speaker is `caller-0`, the session `call`. The second voice is another speaker's, `caller-1`.
    """
    model_id = load_models().encoder_id
    enroll(testbed, domain_id, voices[:2])
    with written(testbed, domain_id) as (connection, domain, vault):
        first = speakers.find(connection, vault, domain_id, "caller-0")
        assert first is not None
        result = made_result(voices[0], model_id=model_id, snr_db=25.0)
        store_voiceprint(connection, vault, domain_id, first, result, testbed.clock())
        fraud_voices.register(
            connection,
            vault,
            domain_id=domain_id,
            fraudster_id=new_generated_id(),
            watchlist_id=domain.default_watchlist_id,
            sample=made_sample(voices[0], model_id=model_id),
            now=testbed.clock(),
        )
        people = shadow_voiceprints.pending(connection, vault, domain_id, OTHER_MODEL, 10)
        for person in people[:-1]:
            sample = made_sample(voices[0][:64] / np.linalg.norm(voices[0][:64]), model_id=OTHER_MODEL)
            shadow_voiceprints.put(connection, person, OTHER_MODEL, sample, None)
        shadow_voiceprints.put(connection, people[-1], OTHER_MODEL, None, "no audio was kept")
    testbed.call(
        "StartSession",
        DomainId=domain_id,
        SessionName="call",
        SpeakerId="caller-0",
        AuthenticationConfiguration={"AcceptanceThreshold": 90},
        FraudDetectionConfiguration={"RiskThreshold": 50},
    )
    parts = tuple(
        made_sample(like(voices[0], one), model_id=model_id, net_speech_s=5.0, snr_db=20.0) for one in PARTS
    )
    store_speech(testbed, domain_id, "call", voices[0], parts=parts)


def dry_run(testbed: Any, domain_id: str, voice: NDArray[np.float32]) -> str:
    """Store the outcome of a dry run of one request; the job's id."""
    job_id, now = new_id(), testbed.clock()
    config = {"ExistingEnrollmentAction": "OVERWRITE", "FraudDetectionConfig": FRAUD}
    with written(testbed, domain_id) as (connection, domain, vault):
        jobs.insert_job(
            connection,
            job_id=job_id,
            kind=jobs.DRY_RUN,
            domain_id=domain_id,
            name_sealed=None,
            role_arn="r",
            input_uri="s3://a/b",
            output_uri="s3://a/c",
            output_kms_key=None,
            config=config,
            now=now,
        )
        jobs.add_requests(connection, job_id, 0, [b"x"])
        jobs.finish_import(connection, job_id, 1)
        job = jobs.find(connection, jobs.DRY_RUN, domain_id, job_id)
        assert job is not None
        context = JobContext(
            job=job,
            role=Role(arn="r", policies=()),
            settings=testbed.settings,
            database=testbed.store.database,
            open_domain=lambda _: (domain, vault),
            renew_lease=lambda _: None,
            clock=testbed.clock,
            outbox=testbed.service.outbox,
            calibration_of=calibration_of,
        )
        sample = made_sample(voice, model_id=load_models().encoder_id, snr_db=25.0)
        result = InspectionResult(
            sample=sample, refusal=None, files=(), different_voices=(), domain_sample=sample
        )
        request = EnrollmentRequest(request_id="r1", speaker_id="caller-0", audio=())
        batch = DryRunProcessor(context).batch(connection, domain, vault, [])
        outcome = batch.decide(request, result)
        sealed = vault.seal_json("job outcome", f"{job_id}/0", outcome.line)
        stored = jobs.SealedOutcome(position=0, sealed=sealed, failed=outcome.failed)
        jobs.record(connection, job_id, [stored])
    return job_id


FRAUD = {"FraudDetectionAction": "FAIL", "RiskThreshold": 50}


def renewer(testbed: Any, **more: Any) -> Any:
    """Build the renewer that the command uses."""
    return build_renewer(testbed.store, by="tester", **{"pause": lambda: None, **more})


def versions(testbed: Any, domain_id: str) -> tuple[int, int, list[int]]:
    """Return the present and the oldest version of a domain's spaces, and those that have a key."""
    with testbed.store.database.read() as connection:
        found = templates.find_versions(connection, domain_id)
        assert found is not None
        keys = select(template_keys.c.version).where(template_keys.c.domain_id == domain_id)
        return found.present, found.oldest, sorted(connection.execute(keys).scalars())


def rows_before(testbed: Any, domain_id: str, version: int) -> int:
    """Count rows in spaces before a version."""
    with testbed.store.database.read() as connection:
        return template_rows.count_before(connection, domain_id, version)


def stored_vector(testbed: Any, domain_id: str, speaker_id: str) -> NDArray[np.float32]:
    """Return a speaker's vector as it is stored, opened."""
    with testbed.store.database.read() as connection:
        domain = domains.find_by_id(connection, domain_id)
        assert domain is not None
        vault = vaults.open_vault(testbed.store.keys, domain_id, domain.arn, domain.data_key_wrapped)
        speaker = speakers.find(connection, vault, domain_id, speaker_id)
        assert speaker is not None
        sample = speakers.load_sample(connection, vault, speaker)
    assert sample is not None
    return sample.vector


# --- open embeddings


@contextmanager
def everything_stored(testbed: Any, monkeypatch: Any) -> Iterator[list[bytes]]:
    """Collect all that is encrypted, and all parameters of SQL statements, while the block runs."""
    found: list[bytes] = []
    seal = sealing.seal_value

    def sealed(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
        found.append(plaintext)
        return seal(key, plaintext, aad)

    def executed(_connection: Any, _cursor: Any, _text: str, given: Any, *_: Any) -> None:
        rows = given if isinstance(given, list) else [given]
        for row in rows:
            values = row.values() if isinstance(row, dict) else row
            found.extend(
                value if isinstance(value, bytes) else value.encode()
                for value in values
                if isinstance(value, bytes | str)
            )

    engine = testbed.store.database.engine
    with monkeypatch.context() as watched:
        watched.setattr(vaults, "seal_value", sealed)
        event.listen(engine, "before_cursor_execute", executed)
        try:
            yield found
        finally:
            event.remove(engine, "before_cursor_execute", executed)


def is_open(data: bytes, vector: NDArray[np.float32]) -> bool:
    """Return whether bytes hold an embedding: as numbers, as text, or as part of a longer row."""
    return any(_holds(numbers, vector) for numbers in _numbers(data))


def _numbers(data: bytes) -> Iterator[NDArray[np.float64]]:
    for kind, size in (("<f4", 4), ("<f8", 8)):
        for start in range(size):
            whole = (len(data) - start) // size * size
            if whole > 0:
                with np.errstate(invalid="ignore"):
                    numbers = np.frombuffer(data[start : start + whole], kind).astype(np.float64)
                yield numbers
    for text in re.findall(rb"[A-Za-z0-9+/]{64,}={0,2}", data):
        yield np.frombuffer((made := base64.b64decode(text + b"=="))[: len(made) // 4 * 4], "<f4").astype(
            np.float64
        )
    for text in re.findall(rb"\[[-+.,eE0-9\s]{64,}\]", data):
        yield np.array(json.loads(text), np.float64)


def _holds(numbers: NDArray[np.float64], vector: NDArray[np.float32]) -> bool:
    size = len(vector)
    if len(numbers) < size:
        return False
    windows = np.lib.stride_tricks.sliding_window_view(np.nan_to_num(numbers, posinf=0.0, neginf=0.0), size)
    with np.errstate(all="ignore"):
        scaled = windows / np.abs(windows).max(axis=1, keepdims=True)
        cosines = scaled @ vector / np.linalg.norm(scaled, axis=1)
    return bool(np.nanmax(np.abs(np.nan_to_num(cosines)), initial=0.0) > 0.7)
