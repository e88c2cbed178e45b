"""Calls on a testbed: recordings pushed into streams as a carrier does, as fast as there is room."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import soundfile
from batch_testbed import Testbed
from numpy.typing import NDArray
from waiting import PATIENCE_S, wait_until

from sonant.assembly import service
from sonant.events import outbox
from sonant.sessions.calls import Call, EndReason
from sonant.sessions.manager import StreamManager
from sonant.sessions.risks import FraudIndexes
from sonant.sessions.stream import Stream
from sonant.storage.crypto.vault import open_vault
from sonant.storage.repositories import domains, session_samples, sessions
from sonant.storage.repositories.session_samples import SessionSample
from sonant.storage.repositories.sessions import Session

FRAME_S = 0.02


def customer(recording: bytes) -> NDArray[np.int16]:
    """The first channel of a recording, at 8 kHz."""
    samples, rate_hz = soundfile.read(io.BytesIO(recording), dtype="int16", always_2d=True)
    assert rate_hz == 8000
    return np.ascontiguousarray(samples[:, 0])


@dataclass
class LiveTestbed:
    """A testbed that takes calls."""

    testbed: Testbed
    manager: StreamManager
    names: int = 0
    ends: list[EndReason] = field(default_factory=list)

    @classmethod
    def of(cls, testbed: Testbed) -> LiveTestbed:
        """Connect the testbed's operations with the stream manager, as in a service."""
        fraud_indexes = FraudIndexes(testbed.settings.fraud.replay_recordings)
        manager = service.build_stream_manager(testbed.store, fraud_indexes)
        testbed.service = replace(testbed.service, live=manager, fraud_indexes=fraud_indexes)
        return cls(testbed, manager)

    def close(self) -> None:
        self.manager.close()

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        return self.testbed.call(operation, **request)

    def start(self, domain_id: str, name: str | None = None, **request: Any) -> Session:
        """Call StartSession and return the stored session."""
        self.names += 1
        name = name or f"call-{self.names}"
        self.call("StartSession", DomainId=domain_id, SessionName=name, **request)
        return self.session(domain_id, name)

    def session(self, domain_id: str, name: str) -> Session:
        with self.testbed.store.database.read() as connection:
            found = sessions.find(connection, domain_id, name, self.testbed.store.clock())
        assert found is not None
        return found

    def open(self, domain_id: str, name: str, **call: Any) -> Stream:
        account = self.testbed.settings.account
        stream = self.manager.open(Call(account_id=account, domain_id=domain_id, session=name, **call))
        stream.on_end(self.ends.append)
        return stream

    def until_ended(self) -> list[EndReason]:
        """Wait until a carrier is informed of an end; return all ends that carriers were informed of."""
        wait_until("a carrier is informed", lambda: self.ends, PATIENCE_S)
        return self.ends

    def analyzed(self, domain_id: str, name: str) -> dict[str, SessionSample]:
        """Return the analyzed speech of a session's stream, by purpose."""
        session = self.session(domain_id, name)
        with self.testbed.store.database.read() as connection:
            domain = domains.find_by_id(connection, domain_id)
            assert domain is not None
            vault = open_vault(self.testbed.store.keys, domain_id, domain.arn, domain.data_key_wrapped)
            return session_samples.load_samples(connection, session.seal(vault), session)

    def replace_sample(self, domain_id: str, name: str, purpose: str, **changes: Any) -> None:
        """Change the analyzed speech of a session's stream for one purpose."""
        sample = replace(self.analyzed(domain_id, name)[purpose], **changes)
        session = self.session(domain_id, name)
        with self.testbed.store.database.write() as connection:
            domain = domains.find_by_id(connection, domain_id)
            assert domain is not None
            vault = open_vault(self.testbed.store.keys, domain_id, domain.arn, domain.data_key_wrapped)
            session_samples.save_sample(connection, session.seal(vault), session.session_id, sample)

    def push(self, stream: Stream, samples: NDArray[np.int16], rate_hz: int = 8000) -> None:
        """Push at full speed, in frames of 20 ms, and wait until all is processed."""
        size = round(FRAME_S * rate_hz)
        for start in range(0, len(samples), size):
            wait_until("there is room", lambda: stream.room_s >= 1.0)
            stream.push(samples[start : start + size], rate_hz)
        assert stream.wait_drained(PATIENCE_S)

    def hang_up(self, stream: Stream, reason: EndReason = EndReason.CALL_ENDED) -> None:
        stream.end(reason)
        assert stream.wait_drained(PATIENCE_S)

    def run_call(self, domain_id: str, name: str, samples: NDArray[np.int16], **call: Any) -> Session:
        """Run a whole call of one recording and return the session."""
        stream = self.open(domain_id, name, **call)
        self.push(stream, samples)
        self.hang_up(stream)
        return self.session(domain_id, name)

    def events(self, domain_id: str, type_: str) -> list[dict[str, Any]]:
        """Return the details of a domain's events of one type, in order."""
        with self.testbed.store.database.read() as connection:
            documents = [json.loads(kept.document) for kept in outbox.events_after(connection, 0, 10_000)]
        details = [one["detail"] for one in documents if one["detail-type"] == type_]
        return [detail for detail in details if detail["domainId"] == domain_id]

    def until(self, domain_id: str, name: str, **members: Any) -> Session:
        """Wait until a session has these members, and return it."""

        def there() -> Session | None:
            session = self.session(domain_id, name)
            return session if all(getattr(session, m) == value for m, value in members.items()) else None

        found: Session = wait_until(f"{name}: {members}", there, PATIENCE_S)
        return found
