"""How streams begin and end, what is refused, and that one call's fate is no other's."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import numpy as np
import pytest
from live_testbed import LiveTestbed, customer
from waiting import PATIENCE_S, until, wait_until

from sonant.errors import AccessDenied, Conflict, ResourceNotFound, ServiceQuotaExceeded, Validation
from sonant.sessions import manager, records
from sonant.sessions.calls import Call, EndReason, StreamFault
from sonant.settings import Live, Quotas
from sonant.storage.repositories import session_streams, sessions
from sonant.storage.repositories.session_samples import AUTHENTICATION
from sonant.storage.repositories.sessions import ENDED, ONGOING, PENDING

SILENCE = np.zeros(1600, np.int16)


@pytest.fixture(scope="module")
def talk(make_call):
    return customer(make_call("english", 11, net_speech_s=14, channels=1))


@pytest.fixture
def brief(variant):
    """A testbed whose calls have little time."""
    made = []

    def make(**live):
        made.append(LiveTestbed.of(variant(live=Live(workers=1, **live))))
        return made[-1]

    yield make
    for one in made:
        one.close()


# --- beginning


def test_stream_is_ongoing_from_its_first_audio(live, domain):
    name = live.start(domain).name
    stream = live.open(domain, name)
    live.run_call(domain, live.start(domain).name, SILENCE)  # another is heard from its beginning to its end
    assert live.session(domain, name).stream_status == PENDING

    live.push(stream, SILENCE)

    session = live.session(domain, name)
    assert session.stream_status == ONGOING
    assert session.stream_started_at >= session.created_at
    live.hang_up(stream)


@pytest.mark.parametrize("spoken", [False, True])
def test_second_carrier_is_refused_and_the_first_goes_on(live, domain, spoken):
    name = live.start(domain).name
    stream = live.open(domain, name)
    if spoken:
        live.push(stream, SILENCE)

    with pytest.raises(Conflict) as caught:
        live.open(domain, name)

    assert caught.value.members["ConflictType"] == "ANOTHER_ACTIVE_STREAM"
    live.push(stream, SILENCE)
    live.hang_up(stream)
    assert live.session(domain, name).heard_s > 0.1


def test_call_for_what_does_not_exist_is_refused(live, domain):
    name = live.start(domain).name
    for how, kind in (
        ({"domain_id": "A" * 22, "name": name}, "DOMAIN"),
        ({"domain_id": "no domain' OR 1", "name": name}, "DOMAIN"),
        ({"domain_id": domain, "name": "nobody-started-it"}, "SESSION"),
        ({"domain_id": domain, "name": "x" * 2000}, "SESSION"),
        ({"domain_id": domain, "name": name, "speaker_id": "id#" + "A" * 22}, "SPEAKER"),
        ({"domain_id": domain, "name": name, "speaker_id": "bad id\n"}, "SPEAKER"),
    ):
        with pytest.raises(ResourceNotFound) as caught:
            live.open(**how)
        assert caught.value.members["ResourceType"] == kind


def test_domain_of_another_account_does_not_exist(live, domain):
    name = live.start(domain).name
    with pytest.raises(ResourceNotFound):
        live.manager.open(Call(account_id="111111111111", domain_id=domain, session=name))


def test_session_with_an_ended_stream_takes_no_call(live, domain):
    name = live.start(domain).name
    live.run_call(domain, name, SILENCE)
    with pytest.raises(ResourceNotFound):
        live.open(domain, name)


def test_carrier_may_start_a_session_and_its_next_stream(live, domain):
    # Given: nobody called StartSession
    first = live.run_call(domain, "from-the-carrier", SILENCE, create=True)
    assert (first.stream, first.acceptance_threshold, first.risk_threshold) == (1, 90, 50)

    # When: it calls again
    second = live.run_call(domain, "from-the-carrier", SILENCE, create=True)

    # Then
    assert (second.session_id, second.stream) == (first.session_id, 2)


def test_session_started_by_a_carrier_counts_against_the_quota(variant):
    live = LiveTestbed.of(variant(quotas=Quotas(active_sessions_per_domain=1, domains_per_account=1000)))
    try:
        domain = live.testbed.new_domain()
        live.start(domain)
        with pytest.raises(ServiceQuotaExceeded):
            live.open(domain, "one-too-many", create=True)
    finally:
        live.close()


def test_carriers_speaker_id_is_set_and_created_if_new(live, domain):
    name = live.start(domain).name
    session = live.run_call(domain, name, SILENCE, speaker_id="customer-7")
    speaker = live.testbed.speakers(domain)["customer-7"]
    assert (speaker.status, speaker.speaker_id) == ("PENDING", session.speaker_id)


def test_suspended_domain_takes_no_call(live):
    domain = live.testbed.new_domain()
    name = live.start(domain).name
    live.call("DeleteDomain", DomainId=domain)
    with pytest.raises(Conflict) as caught:
        live.open(domain, name)
    assert caught.value.members["ConflictType"] == "DOMAIN_NOT_ACTIVE"


def test_domain_with_disabled_key_takes_no_call(live):
    key = live.testbed.store.keys.create("of calls")
    domain = live.testbed.new_domain(key=key.arn)
    name = live.start(domain).name
    live.testbed.store.keys.disable(key.arn)
    with pytest.raises(AccessDenied):
        live.open(domain, name)


# --- ending


@pytest.mark.parametrize("reason", [EndReason.CALL_ENDED, EndReason.DISCONNECTED, EndReason.MALFORMED])
def test_results_before_the_end_are_kept_for_any_reason(live, domain, talk, reason):
    name = live.start(domain).name
    stream = live.open(domain, name)
    live.push(stream, talk)
    live.hang_up(stream, reason)

    session = live.session(domain, name)
    assert (session.stream_status, session.stream_end_reason) == (ENDED, reason)
    assert AUTHENTICATION in live.analyzed(domain, name)
    assert live.ends == [], "who ended it needs not be told"


def test_audio_waiting_at_the_end_is_processed(live, domain, talk):
    name = live.start(domain).name
    stream = live.open(domain, name)
    for part in np.split(talk[: 17 * 8000], 17):
        wait_until("there is room", lambda: stream.room_s >= 1)
        stream.push(part, 8000)
    stream.end(EndReason.CALL_ENDED)
    assert stream.wait_drained(PATIENCE_S)
    assert live.session(domain, name).heard_s > 12
    assert AUTHENTICATION in live.analyzed(domain, name)


def test_connection_lost_before_audio_leaves_the_session_pending(live, domain):
    name = live.start(domain).name
    live.hang_up(live.open(domain, name), EndReason.DISCONNECTED)
    assert live.session(domain, name).stream_status == PENDING
    assert live.run_call(domain, name, SILENCE).stream_end_reason == EndReason.CALL_ENDED


def test_end_stream_ends_it_and_informs_the_carrier(live, domain):
    name = live.start(domain).name
    stream = live.open(domain, name)
    live.push(stream, SILENCE)

    live.call("EndStream", DomainId=domain, SessionNameOrId=name)

    assert live.until_ended() == [EndReason.REQUESTED]
    assert stream.wait_drained(PATIENCE_S)
    assert live.session(domain, name).stream_end_reason == EndReason.REQUESTED
    with pytest.raises(StreamFault) as caught:
        stream.push(SILENCE, 8000)
    assert caught.value.reason is EndReason.REQUESTED


def test_counters_are_true_after_end_stream(live, domain, talk):
    name = live.start(domain).name
    stream = live.open(domain, name)
    live.push(stream, talk)

    live.call("EndStream", DomainId=domain, SessionNameOrId=name)

    assert live.until_ended() == [EndReason.REQUESTED]
    assert stream.wait_drained(PATIENCE_S)
    session = live.session(domain, name)
    assert session.heard_s == pytest.approx(len(talk) / 8000, abs=0.01)
    assert session.net_speech_s == 10, "as much as anything needs"


def test_restarted_stream_is_decided_anew_over_the_same_connection(live, domain, talk):
    # Given: a call that was decided
    name = live.start(domain, SpeakerId="customer-8").name
    stream = live.open(domain, name)
    live.push(stream, talk)
    first = live.call("EvaluateSession", DomainId=domain, SessionNameOrId=name)["FraudDetectionResult"]
    assert first["Decision"] == "LOW_RISK"

    # When
    restarted = live.call("RestartStream", DomainId=domain, SessionNameOrId=name)["Session"]

    # Then: nothing of before counts, and the connection is open
    assert (restarted["StreamNumber"], restarted["StreamingStatus"]) == (2, "ONGOING")
    assert (restarted["HeardSeconds"], restarted["NetSpeechSeconds"]) == (0.0, 0.0)
    again = live.call("EvaluateSession", DomainId=domain, SessionNameOrId=name)["FraudDetectionResult"]
    assert again["Decision"] == "NOT_ENOUGH_SPEECH"
    assert live.analyzed(domain, name) == {}
    assert live.ends == []

    # and speech that follows is decided, under the new number
    wait_until("the listener has begun anew", lambda: stream.heard_s == 0.0, PATIENCE_S)
    live.push(stream, talk)
    live.hang_up(stream)
    second = live.call("EvaluateSession", DomainId=domain, SessionNameOrId=name)["FraudDetectionResult"]
    assert second["Decision"] == "LOW_RISK"
    assert second["FraudDetectionResultId"] != first["FraudDetectionResultId"]
    session = live.session(domain, name)
    assert (session.stream, session.stream_end_reason) == (2, EndReason.CALL_ENDED)
    assert session.heard_s == pytest.approx(len(talk) / 8000, abs=0.01)


def test_stream_that_is_not_ongoing_cannot_be_restarted(live, domain):
    name = live.start(domain).name
    with pytest.raises(Validation, match="no ongoing stream"):
        live.call("RestartStream", DomainId=domain, SessionNameOrId=name)
    live.run_call(domain, name, SILENCE)
    with pytest.raises(Validation, match="no ongoing stream"):
        live.call("RestartStream", DomainId=domain, SessionNameOrId=name)


# --- a newer connection for the same call


@pytest.mark.parametrize("spoken", [False, True])
def test_connection_that_continues_a_call_takes_the_place_of_the_older(live, domain, spoken):
    first = live.open(domain, "reconnected", create=True)
    if spoken:
        live.push(first, SILENCE)

    second = live.open(domain, "reconnected", create=True, continues=True)

    assert live.ends == [EndReason.DISCONNECTED], "the older connection is closed"
    live.push(second, SILENCE)
    live.hang_up(second)
    session = live.session(domain, "reconnected")
    assert (session.stream, session.stream_end_reason) == (2, EndReason.CALL_ENDED)
    assert first.wait_drained(PATIENCE_S)


def test_connection_that_has_gone_silent_gives_way_to_a_newer(live, domain, monkeypatch):
    first = live.open(domain, "gone-silent", create=True)
    live.push(first, SILENCE)
    with pytest.raises(Conflict):
        live.open(domain, "gone-silent", create=True)  # it has sent audio a moment ago

    monkeypatch.setattr(manager, "GIVES_WAY_S", -1.0)
    second = live.open(domain, "gone-silent", create=True)

    assert live.ends == [EndReason.DISCONNECTED]
    live.push(second, SILENCE)
    live.hang_up(second)


def test_stream_elsewhere_gives_way_to_a_connection_that_continues(live, domain):
    session = live.start(domain, "elsewhere")
    with live.testbed.store.database.write() as connection:
        now = live.testbed.store.clock()
        session_streams.claim(
            connection, session.session_id, 1, "another process", now, now + timedelta(hours=1)
        )
    with pytest.raises(Conflict):
        live.open(domain, "elsewhere", create=True)
    stream = live.open(domain, "elsewhere", create=True, continues=True)
    live.push(stream, SILENCE)
    live.hang_up(stream)
    assert live.session(domain, "elsewhere").stream == 2


def test_late_callback_is_called_with_the_end(live, domain):
    name = live.start(domain).name
    stream = live.open(domain, name)
    live.push(stream, SILENCE)
    live.call("EndStream", DomainId=domain, SessionNameOrId=name)
    live.until_ended()
    late: list[EndReason] = []
    stream.on_end(late.append)
    assert late == [EndReason.REQUESTED]


def _suspend(live, domain, _key):
    live.call("DeleteDomain", DomainId=domain)


def _disable(live, _domain, key):
    live.testbed.store.keys.disable(key)


@pytest.mark.parametrize("go", [_suspend, _disable])
def test_unavailable_domain_ends_its_calls_only(live, domain, talk, go):
    # Given: calls in two domains
    key = live.testbed.store.keys.create("of calls").arn
    going = live.testbed.new_domain(key=key)
    ended, other = (live.open(where, live.start(where).name) for where in (going, domain))
    for stream in (ended, other):
        live.push(stream, SILENCE)

    # When: one is suspended, or its key disabled
    go(live, going, key)

    # Then
    assert live.until_ended() == [EndReason.DOMAIN_GONE]
    assert ended.wait_drained(PATIENCE_S)
    live.push(other, talk)
    live.hang_up(other)
    with live.testbed.store.database.read() as connection:
        left = sessions.find(connection, going, ended.session_id, live.testbed.store.clock())
        kept = sessions.find(connection, domain, other.session_id, live.testbed.store.clock())
    assert left is not None and kept is not None
    assert left.stream_end_reason == EndReason.DOMAIN_GONE
    assert AUTHENTICATION in live.analyzed(domain, kept.name)


# --- bounds


def test_silent_line_is_ended(brief):
    live = brief(idle_s=0.5)
    domain = live.testbed.new_domain()
    name = live.start(domain).name
    stream = live.open(domain, name)
    live.push(stream, SILENCE)
    live.until(domain, name, stream_status=ENDED, stream_end_reason=EndReason.IDLE)
    assert live.ends == [EndReason.IDLE]


def test_line_without_audio_is_ended(brief):
    live = brief(idle_s=0.5)
    domain = live.testbed.new_domain()
    name = live.start(domain).name
    stream = live.open(domain, name)
    assert stream.wait_drained(PATIENCE_S)
    live.until(domain, name, stream_status=ENDED, stream_end_reason=EndReason.NEVER_BEGAN)
    assert live.until_ended() == [EndReason.NEVER_BEGAN]


def test_paused_call_outlives_the_idle_time_from_the_start(brief, monkeypatch):
    """Its carrier is connected and has sent no audio yet: the session waits on, here and in the store."""
    live = brief(idle_s=1.0)
    domain = live.testbed.new_domain()
    session = live.start(domain)
    stream = live.open(domain, session.name)
    stream.connected = True
    opened = live.session(domain, session.name)
    assert opened.stream_until > session.stream_until, "long enough for the first heartbeat"

    monkeypatch.setattr(records, "LEASE", timedelta(hours=1))  # each heartbeat has it wait on

    def waits_on():
        return live.session(domain, session.name).stream_until > opened.stream_until

    wait_until("the store lets it wait", waits_on, PATIENCE_S)
    live.push(stream, SILENCE)
    live.hang_up(stream)
    assert live.session(domain, session.name).stream_end_reason == EndReason.CALL_ENDED
    assert live.ends == []


def test_too_long_call_is_ended(brief):
    live = brief(max_stream_s=1.0)
    domain = live.testbed.new_domain()
    name = live.start(domain).name
    stream = live.open(domain, name)
    live.push(stream, np.zeros(8000 * 2, np.int16))
    live.until(domain, name, stream_end_reason=EndReason.TOO_LONG)


def test_audio_without_room_is_a_fault_of_that_stream(live, domain):
    stream = live.open(domain, live.start(domain).name)
    assert stream.room_s == 10
    with pytest.raises(StreamFault) as caught:
        stream.push(np.zeros(80_001, np.int16), 8000)
    assert caught.value.reason is EndReason.OVERRUN
    live.push(stream, SILENCE)
    live.hang_up(stream, caught.value.reason)


@pytest.mark.parametrize(("first", "second"), [(8000, 16000), (4000, None), (96000, None), (0, None)])
def test_changing_or_unsupported_rate_is_a_fault(live, domain, first, second):
    stream = live.open(domain, live.start(domain).name)
    with pytest.raises(StreamFault) as caught:
        stream.push(SILENCE, first)
        stream.push(SILENCE, second)
    assert caught.value.reason is EndReason.MALFORMED
    stream.end(EndReason.MALFORMED)


def test_event_loop_can_wait_until_a_call_is_processed(live, domain, talk):
    stream = live.open(domain, live.start(domain).name)

    async def carry():
        for part in np.split(talk[: 16 * 8000], 160):
            await until("there is room", lambda: stream.room_s >= 1)
            stream.push(part, 8000)
        await stream.drained()
        heard = stream.room_s
        stream.end(EndReason.CALL_ENDED)
        await stream.drained()
        return heard

    assert asyncio.run(carry()) == 10
