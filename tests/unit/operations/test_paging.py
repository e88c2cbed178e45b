"""Pages: nothing is skipped, nothing comes twice, and a token is good for its own listing only."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from operations_testbed import OTHER_ACCOUNT, operations_on
from sqlalchemy import update

from sonant.errors import Validation
from sonant.storage.database.schema import jobs


def opt_out(testbed, domain_id, *customers):
    for customer in customers:
        testbed.call("OptOutSpeaker", DomainId=domain_id, SpeakerId=customer)


def page(testbed, domain_id, token=None, size=2):
    request = {"DomainId": domain_id, "MaxResults": size, **({"NextToken": token} if token else {})}
    answer = testbed.call("ListSpeakers", **request)
    return [one["CustomerSpeakerId"] for one in answer["SpeakerSummaries"]], answer["NextToken"]


def refused(testbed, operation, **request):
    with pytest.raises(Validation) as raised:
        testbed.call(operation, **request)
    return raised.value.message


FOREIGN = "NextToken is not one that this call gave; call again with the same arguments or without it"
EXPIRED = "NextToken has expired; start the listing again without it"


@pytest.fixture
def listed(testbed):
    """A domain with three speakers, and the token after the first two."""
    domain_id = testbed.new_domain()
    for customer in ("a", "b", "c"):
        opt_out(testbed, domain_id, customer)
        testbed.clock.advance(seconds=1)
    found, token = page(testbed, domain_id)
    assert found == ["a", "b"]
    return domain_id, token


def test_a_listing_ends_without_a_token(testbed, listed):
    domain_id, token = listed
    assert page(testbed, domain_id, token) == (["c"], None)


def test_a_page_that_takes_exactly_what_is_there_is_the_last_one(testbed, listed):
    assert page(testbed, listed[0], size=3) == (["a", "b", "c"], None)


def test_an_empty_token_is_no_token(testbed, listed):
    answer = testbed.call("ListSpeakers", DomainId=listed[0], MaxResults=2, NextToken="")
    assert [one["CustomerSpeakerId"] for one in answer["SpeakerSummaries"]] == ["a", "b"]


def test_a_token_may_be_used_again_and_with_another_size(testbed, listed):
    domain_id, token = listed
    opt_out(testbed, domain_id, "d")
    assert page(testbed, domain_id, token, size=1)[0] == ["c"]
    assert page(testbed, domain_id, token, size=10) == (["c", "d"], None)


def test_token_reveals_nothing(testbed, listed):
    domain_id, token = listed
    raw = base64.urlsafe_b64decode(token)
    last = testbed.call("DescribeSpeaker", DomainId=domain_id, SpeakerId="b")["Speaker"]["GeneratedSpeakerId"]
    assert last.encode() not in raw
    assert b"[" not in raw[:1]
    assert page(testbed, domain_id)[1] != token, "equal positions are sealed differently"


def test_a_token_survives_a_restart_of_the_service(testbed, listed):
    domain_id, token = listed
    testbed.restart()
    assert page(testbed, domain_id, token) == (["c"], None)


def test_a_token_lasts_24_hours(testbed, listed):
    domain_id, token = listed
    issued = testbed.clock.now
    testbed.clock.advance(hours=24, microseconds=-1)
    assert page(testbed, domain_id, token) == (["c"], None)
    testbed.clock.now = issued
    testbed.clock.advance(hours=24)
    assert refused(testbed, "ListSpeakers", DomainId=domain_id, NextToken=token) == EXPIRED


def test_a_token_of_one_domain_opens_no_other(testbed, listed):
    assert refused(testbed, "ListSpeakers", DomainId=testbed.new_domain(), NextToken=listed[1]) == FOREIGN


def test_a_token_of_one_operation_opens_no_other(testbed, listed):
    domain_id, token = listed
    for operation in ("ListWatchlists", "ListFraudsters", "ListSpeakerEnrollmentJobs"):
        assert refused(testbed, operation, DomainId=domain_id, NextToken=token) == FOREIGN
    assert refused(testbed, "ListDomains", NextToken=token) == FOREIGN


def test_a_token_of_one_account_opens_no_other(testbed):
    for account in (None, OTHER_ACCOUNT):
        for _ in range(2):
            testbed.new_domain(**({} if account is None else {"account": account}))
    token = testbed.call("ListDomains", MaxResults=1)["NextToken"]
    assert refused(testbed, "ListDomains", account=OTHER_ACCOUNT, NextToken=token) == FOREIGN
    assert len(testbed.call("ListDomains", NextToken=token)["DomainSummaries"]) == 1


def test_a_token_is_bound_to_its_filter(testbed):
    domain_id = testbed.new_domain()
    role = "arn:aws:iam::000000000000:role/sonant"
    for number in range(2):
        job = testbed.call(
            "StartSpeakerEnrollmentJob",
            DomainId=domain_id,
            DataAccessRoleArn=role,
            InputDataConfig={"S3Uri": f"s3://jobs/{number}"},
            OutputDataConfig={"S3Uri": "s3://jobs/out"},
        )["Job"]["JobId"]
        with testbed.store.database.write() as connection:
            connection.execute(update(jobs).where(jobs.c.job_id == job).values(status="FAILED"))
        testbed.clock.advance(seconds=1)
    token = testbed.call("ListSpeakerEnrollmentJobs", DomainId=domain_id, MaxResults=1, JobStatus="FAILED")[
        "NextToken"
    ]
    asked = {"DomainId": domain_id, "NextToken": token}
    assert refused(testbed, "ListSpeakerEnrollmentJobs", **asked) == FOREIGN
    assert refused(testbed, "ListSpeakerEnrollmentJobs", **asked, JobStatus="COMPLETED") == FOREIGN
    assert len(testbed.call("ListSpeakerEnrollmentJobs", **asked, JobStatus="FAILED")["JobSummaries"]) == 1


@pytest.mark.parametrize("token", ["x", "====", "AAAA", "ä", "A" * 8000, "W10=", " "])
def test_a_token_that_nobody_made_is_refused(testbed, listed, token):
    assert refused(testbed, "ListSpeakers", DomainId=listed[0], NextToken=token) == FOREIGN


def test_a_token_with_any_bit_changed_is_refused(testbed, listed):
    domain_id, token = listed
    raw = base64.urlsafe_b64decode(token)
    for position in range(len(raw)):
        changed = bytearray(raw)
        changed[position] ^= 1
        text = base64.urlsafe_b64encode(changed).decode()
        assert refused(testbed, "ListSpeakers", DomainId=domain_id, NextToken=text) == FOREIGN


#: What may happen between two pages: a speaker comes (at this moment or later) or goes.
CHANGES = st.lists(
    st.tuples(st.just("add"), st.integers(0, 1)) | st.tuples(st.just("delete"), st.integers(0, 30)),
    max_size=4,
)


@pytest.fixture(scope="module")
def shared_testbed():
    with tempfile.TemporaryDirectory() as folder:
        testbed = operations_on(Path(folder) / "data")
        yield testbed
        testbed.close()


@settings(
    max_examples=settings().max_examples // 3,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    moments=st.lists(st.integers(0, 1), min_size=1, max_size=10),
    size=st.integers(1, 4),
    changes=st.lists(CHANGES, max_size=8),
)
def test_items_that_stay_are_listed_once_whatever_changes_between_pages(
    shared_testbed, moments, size, changes
):
    testbed, serial = shared_testbed, 0
    domain_id, alive = testbed.new_domain(), []

    def add(later):
        nonlocal serial
        serial += 1
        testbed.clock.advance(seconds=later)  # 0: two of one moment are told apart by their ids
        opt_out(testbed, domain_id, f"c{serial}")
        alive.append(f"c{serial}")

    for later in moments:
        add(later)
    from_the_start, gone, listed, token = list(alive), set(), [], None
    pending = list(changes)
    while True:
        found, token = page(testbed, domain_id, token, size)
        assert len(found) <= size
        listed += found
        if token is None:
            break
        for what, value in pending.pop(0) if pending else ():
            if what == "add":
                add(value)
            elif alive:
                name = alive.pop(value % len(alive))
                gone.add(name)
                testbed.call("DeleteSpeaker", DomainId=domain_id, SpeakerId=name)
    assert len(listed) == len(set(listed)), "something came twice"
    assert set(from_the_start) - gone <= set(listed), "something was skipped"
    created = {
        one["CustomerSpeakerId"]: one["CreatedAt"]
        for one in testbed.call("ListSpeakers", DomainId=domain_id)["SpeakerSummaries"]
    }
    times = [created[name] for name in listed if name in created]
    assert times == sorted(times), "oldest first"
