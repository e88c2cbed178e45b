"""No call asks the database more often because there is more to tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from counted_statements import counted_statements
from made_samples import made_sample
from operations_testbed import ACCOUNT, operations_on
from sessions_testbed import written
from voices_testbed import enroll, strangers

from sonant.iam import ALLOW_ALL
from sonant.ids import new_generated_id
from sonant.operations import OPERATIONS
from sonant.storage.repositories import access, fraud_voices
from sonant.voice.models import shipped_encoder_id

ROLE = "arn:aws:iam::000000000000:role/sonant"
#: Operations whose name begins with List, and that list nothing of which this test stores one or many: files,
#: settings, requests that a runner has imported, KMS keys.
FIXED = frozenset({"ListAuditRecords", "ListSettings", "ListJobOutcomes", "ListKeys"})

CONSENT = {"TextHash": "0" * 64, "TextVersion": "1", "Purpose": "verification", "Channel": "letter"}


def job(**more: Any) -> dict[str, Any]:
    files = {"InputDataConfig": {"S3Uri": "s3://calls/in"}, "OutputDataConfig": {"S3Uri": "s3://calls/out"}}
    return {"DataAccessRoleArn": ROLE, **files, **more}


def fill(testbed: Any, domain_id: str, count: int) -> None:
    """Store `count` of everything that a domain can hold, each connected with another."""
    voices = np.repeat(strangers(count, seed=3), 2, axis=0)  # each voice twice: a pair of duplicates
    enroll(testbed, domain_id, voices)
    for number in range(count):
        at = {"DomainId": domain_id}
        watchlist = testbed.call("CreateWatchlist", **at, Name=f"list-{number}")["Watchlist"]
        fraudster_id = new_generated_id()
        with written(testbed, domain_id) as (connection, domain, vault):
            fraud_voices.register(
                connection,
                vault,
                domain_id=domain_id,
                fraudster_id=fraudster_id,
                watchlist_id=domain.default_watchlist_id,
                sample=made_sample(voices[2 * number], model_id=shipped_encoder_id()),
                now=testbed.clock(),
            )
        testbed.call(
            "AssociateFraudster", **at, FraudsterId=fraudster_id, WatchlistId=watchlist["WatchlistId"]
        )
        testbed.call("PutConsent", **at, SpeakerId="consenting", **CONSENT)
        testbed.call("StartSpeakerEnrollmentJob", **at, **job(), ClientToken=f"enrollment-{number:022}")
        testbed.call("StartFraudsterRegistrationJob", **at, **job(), ClientToken=f"registration-{number:022}")
        testbed.call("StartEnrollmentDryRun", **at, **job(), ClientToken=f"dry-run-{number:022}")
        testbed.call(
            "StartSession",
            **at,
            SessionName=f"call-{number}",
            SpeakerId=f"caller-{number}",
            AuthenticationConfiguration={"AcceptanceThreshold": 90},
        )
        with testbed.store.database.write() as connection:
            arn, now = f"arn:aws:iam::{ACCOUNT}:user/user-{number}", testbed.clock()
            access.put_principal(connection, arn, account_id=ACCOUNT, policies=[ALLOW_ALL], now=now)
            access.create_access_key(connection, testbed.store.secret, arn, now)
        testbed.clock.advance(seconds=1)


def statements_of_lists(data: Path, count: int) -> dict[str, int]:
    """How many statements each List operation executes in a domain that holds `count` of everything."""
    with counted_statements() as executed:
        testbed = operations_on(
            data,
            active_enrollment_jobs_per_domain=100,
            active_registration_jobs_per_domain=100,
        )
        domains = [
            testbed.new_domain(Tags=[{"Key": f"k{n}", "Value": "v"} for n in range(count)])
            for _ in range(count)
        ]
        fill(testbed, domains[0], count)
        arn = testbed.call("DescribeDomain", DomainId=domains[0])["Domain"]["Arn"]
        asked: dict[str, dict[str, Any]] = {
            "ListConsents": {"DomainId": domains[0], "SpeakerId": "consenting"},
            "ListDomains": {},
            "ListPrincipals": {},
            "ListTagsForResource": {"ResourceArn": arn},
        }
        found = {}
        for name in sorted(OPERATIONS):
            if name.startswith("List") and name not in FIXED:
                request = asked.get(name, {"DomainId": domains[0]})
                executed.clear()
                answer = testbed.call(name, **request)
                found[name] = len(executed)
                assert len(next(one for one in answer.values() if isinstance(one, list))) >= count
        testbed.close()
    return found


@pytest.mark.parametrize("count", [7])
def test_a_list_takes_no_more_statements_for_many_items_than_for_one(tmp_path, count):
    one = statements_of_lists(tmp_path / "one", 1)
    many = statements_of_lists(tmp_path / "many", count)
    # What a thread has read before it may find in memory, which saves one.
    assert {name: (one[name], found) for name, found in many.items() if found > one[name]} == {}
    assert len(one) >= 9
