"""Sessions in a testbed of operations, with analyzed speech from the test."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from made_samples import made_sample

from sonant.iam import ALLOW_ALL, parse
from sonant.operations.service import Caller
from sonant.storage.crypto.vault import open_vault
from sonant.storage.database.schema import events
from sonant.storage.repositories import domains, session_samples, session_streams, sessions
from sonant.storage.repositories.access import Principal
from sonant.storage.repositories.session_samples import AUTHENTICATION, FRAUD
from sonant.voice.models import shipped_encoder_id

ACCOUNT = "0" * 12
#: A caller with all rights.
CALLER = Caller(
    principal=Principal(
        arn=f"arn:aws:iam::{ACCOUNT}:user/sonant", account_id=ACCOUNT, policies=(parse(ALLOW_ALL),), tags={}
    ),
    region="us-east-1",
)


@contextmanager
def written(testbed, domain_id):
    with testbed.store.database.write() as connection:
        domain = domains.find_by_id(connection, domain_id)
        assert domain is not None
        yield (
            connection,
            domain,
            open_vault(testbed.store.keys, domain_id, domain.arn, domain.data_key_wrapped),
        )


def store_speech(testbed, domain_id, name, vector, *, purposes=(AUTHENTICATION, FRAUD), **more: Any):
    """Start the stream, if it has not started, and store enough analyzed speech."""
    now = testbed.clock()
    sample = made_sample(
        vector,
        model_id=more.pop("model_id", None) or shipped_encoder_id(),
        net_speech_s=more.pop("net_speech_s", 10.0),
        snr_db=more.pop("snr_db", 20.0),
        highpass_300hz=more.pop("highpass_300hz", False),
    )
    with written(testbed, domain_id) as (connection, _domain, vault):
        session = sessions.find(connection, domain_id, name, now)
        assert session is not None
        session_streams.claim(
            connection, session.session_id, session.stream, "test", now, now + timedelta(hours=1)
        )
        for purpose in purposes:
            members = {
                "purpose": purpose,
                "stream": session.stream,
                "started_at": now,
                "ended_at": now + timedelta(seconds=12),
                "sample": sample,
                **more,
            }
            session_samples.save_sample(
                connection, session.seal(vault), session.session_id, session_samples.SessionSample(**members)
            )


def events_of(testbed) -> list[dict[str, Any]]:
    """Return the events so far."""
    with testbed.store.database.read() as connection:
        rows = connection.execute(events.select().order_by(events.c.sequence))
        return [json.loads(row.document) for row in rows]
