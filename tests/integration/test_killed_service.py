"""A service is killed in the middle of everything: who calls the other sees nothing, and nothing is lost."""

from __future__ import annotations

import itertools
import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from batch_testbed import Testbed
from botocore.exceptions import ClientError, EndpointConnectionError, HTTPClientError
from cluster_testbed import Cluster
from two_services import Side
from waiting import wait_until

from sonant.settings import Quotas, Settings

#: One process of pytest, so that the services are started once.
pytestmark = pytest.mark.xdist_group("killed services")

KEY = {"KmsKeyId": "alias/sonant"}
DOMAINS, SESSIONS = 30, 20
CALLERS = 6
REFUSED = "ServiceQuotaExceededException"


@pytest.fixture(scope="module")
def testbed(tmp_path_factory, postgres_server):
    """This process; may make more domains than callers may."""
    with postgres_server.migrated() as url:
        data = tmp_path_factory.mktemp("killed") / "data"
        made = Testbed.open(
            Settings(data=data, database=url, encoder="ge2e", quotas=Quotas(domains_per_account=2 * DOMAINS))
        )
        yield made
        made.close()


@pytest.fixture(scope="module")
def cluster(testbed):
    made = Cluster(
        testbed,
        SONANT_RATES_FACTOR="0",
        SONANT_QUOTAS_DOMAINS_PER_ACCOUNT=str(DOMAINS),
        SONANT_QUOTAS_ACTIVE_SESSIONS_PER_DOMAIN=str(SESSIONS),
        # A lock that a dead service kept would cost the other's calls this time, and then the call.
        SONANT_POSTGRES_LOCK_TIMEOUT_S="60",
        SONANT_POSTGRES_STATEMENT_TIMEOUT_S="90",
        SONANT_POSTGRES_IDLE_TIMEOUT_S="3600",
    )
    yield made
    made.close()


@pytest.fixture(scope="module")
def other(cluster):
    return Side.start(cluster)


@pytest.fixture
def dying(cluster):
    return Side.start(cluster)


class Callers:
    """Threads that make things until there can be no more, each thing under a token of its own."""

    def __init__(self, dying: Side, other: Side) -> None:
        self._dying, self._other = dying, other
        self._numbers = itertools.count()
        self.made: dict[str, str] = {}
        """Ids by token."""
        self.refused: set[str] = set()
        self.under_way: set[str] = set()
        """Tokens of calls that the dying service has not answered yet."""
        self.lost: set[str] = set()
        """Of those that it never will."""

    def call(self, made_at: Callable[[Side, str], str], until: Callable[[], bool]) -> None:
        """Ask one of the two, and the other the same again when there is no answer."""
        while not until():
            number = next(self._numbers)
            token = f"token-{number}"
            try:
                if number % 2:
                    self.under_way.add(token)
                    try:
                        self.made[token] = made_at(self._dying, token)
                        continue
                    except (EndpointConnectionError, HTTPClientError):
                        self.lost.add(token)
                    finally:
                        self.under_way.discard(token)
                self.made[token] = made_at(self._other, token)
            except ClientError as error:
                assert error.response["Error"]["Code"] == REFUSED, error
                self.refused.add(token)


def new_domain(side: Side, token: str) -> str:
    made = side.voice_id.create_domain(Name=token, ServerSideEncryptionConfiguration=KEY, ClientToken=token)
    return str(made["Domain"]["DomainId"])


def new_session(domain_id: str) -> Callable[[Side, str], str]:
    def made_at(side: Side, token: str) -> str:
        asked = {"DomainId": domain_id, "SessionName": token, "SpeakerId": token, "ClientToken": token}
        return str(side.own.start_session(**asked)["Session"]["SessionId"])

    return made_at


def killed_amid(dying: Side, other: Side, made_at: Callable[[Side, str], str], most: int) -> Callers:
    """Let callers make things, kill a service when half of all that may be made are there, and go on."""
    callers = Callers(dying, other)
    enough = threading.Event()
    with ThreadPoolExecutor(CALLERS) as pool:
        working = [pool.submit(callers.call, made_at, enough.is_set) for _ in range(CALLERS)]
        try:
            wait_until("half of all is made", lambda: len(callers.made) >= most // 2)
            # It stands still for a moment, wherever it is, so that calls are under way when it dies.
            dying.process.send_signal(signal.SIGSTOP)
            waiting = wait_until("somebody waits for it", lambda: set(callers.under_way))
            dying.kill()
            wait_until("some are refused", lambda: len(callers.refused) >= 2 * CALLERS)
        finally:
            enough.set()
        for work in working:
            work.result()
    # Who waited may have had an answer on its way, but for one that waited in vain.
    assert waiting <= callers.lost | callers.made.keys() | callers.refused
    assert callers.lost
    return callers


def pages(ask: Callable[..., Any], member: str, **what: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    token: dict[str, str] = {}
    while True:
        page = ask(**what, **token)
        found += page[member]
        if "NextToken" not in page:
            return found
        token = {"NextToken": page["NextToken"]}


@pytest.mark.slow
def test_client_tokens_and_the_quota_of_domains_outlive_a_killed_service(dying, other):
    before = {one["DomainId"] for one in pages(other.voice_id.list_domains, "DomainSummaries")}
    callers = killed_amid(dying, other, new_domain, DOMAINS - len(before))

    # Each token made one domain, there are as many as there may be, and no other.
    there = pages(other.voice_id.list_domains, "DomainSummaries")
    new = [one for one in there if one["DomainId"] not in before]
    assert {one["Name"]: one["DomainId"] for one in new} == callers.made
    assert len(there) == DOMAINS

    # What was made is still known by its token, and what was refused is still refused.
    assert {token: new_domain(other, token) for token in callers.made} == callers.made
    with pytest.raises(ClientError, match=REFUSED):
        new_domain(other, min(callers.refused))


@pytest.mark.slow
def test_client_tokens_and_the_quota_of_sessions_outlive_a_killed_service(dying, other, testbed):
    domain_id = testbed.new_domain()
    callers = killed_amid(dying, other, new_session(domain_id), SESSIONS)

    there = pages(other.own.list_sessions, "SessionSummaries", DomainId=domain_id)
    assert {one["SessionName"]: one["SessionId"] for one in there} == callers.made
    assert len(there) == SESSIONS
    # A refused start left no speaker behind.
    speakers = pages(other.voice_id.list_speakers, "SpeakerSummaries", DomainId=domain_id)
    assert Counter(one["CustomerSpeakerId"] for one in speakers) == Counter(callers.made.keys())

    assert {token: new_session(domain_id)(other, token) for token in callers.made} == callers.made


def test_what_a_killed_service_has_answered_is_in_effect_at_the_other(dying, other, testbed):
    domain_id = testbed.new_domain()
    answered: list[str] = []

    def opt_out(first: int) -> None:
        for number in itertools.count(first, CALLERS):
            try:
                dying.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId=f"customer-{number}")
            except (EndpointConnectionError, HTTPClientError):
                return
            answered.append(f"customer-{number}")

    with ThreadPoolExecutor(CALLERS) as pool:
        working = [pool.submit(opt_out, first) for first in range(CALLERS)]
        wait_until("some have opted out", lambda: len(answered) >= 40)
        dying.kill()
        for work in working:
            work.result()
    speakers = pages(other.voice_id.list_speakers, "SpeakerSummaries", DomainId=domain_id)
    found = {one["CustomerSpeakerId"]: one["Status"] for one in speakers}
    assert len(found) == len(speakers)
    assert found.keys() >= set(answered)
    assert set(found.values()) == {"OPTED_OUT"}
    # At most what each caller had under way was done and not answered.
    assert len(found) <= len(answered) + CALLERS
