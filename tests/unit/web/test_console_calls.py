"""The overview and the pages of calls: counts by hour, filters, and what happened in a call."""

from __future__ import annotations

import re

import pytest
from console_testbed import ConsoleTestbed, Person, WebPage, text_of
from sqlalchemy import insert

from sonant.storage.database.schema import session_results
from sonant.storage.times import to_us


@pytest.fixture(scope="module")
def calls(console: ConsoleTestbed) -> dict[str, str]:
    """Calls with decisions, by name; each an hour after the one before."""
    decisions = {
        "genuine": ("ACCEPT", "LOW_RISK", ""),
        "stranger": ("REJECT", "LOW_RISK", ""),
        "wanted": ("REJECT", "HIGH_RISK", "KNOWN_FRAUDSTER"),
        "replayed": ("ACCEPT", "HIGH_RISK", "KNOWN_FRAUDSTER,VOICE_SPOOFING"),
    }
    found = {}
    for name, (voice, fraud, reasons) in decisions.items():
        console.pass_time(hours=1)
        session = console.call("StartSession", SessionName=name, SpeakerId=f"of-{name}")["Session"]
        for purpose, decision, why in (("AUTHENTICATION", voice, ""), ("FRAUD", fraud, reasons)):
            decide(console, session["SessionId"], purpose, decision, why)
        found[name] = session["SessionId"].removeprefix("id#")
    console.pass_time(minutes=30)
    return found


def decide(console: ConsoleTestbed, session_id: str, purpose: str, decision: str, reasons: str) -> None:
    known = ', "score": 91' if purpose == "AUTHENTICATION" else ', "watchlist_id": "w", "known_score": 80'
    with console.store.database.write() as connection:
        connection.execute(
            insert(session_results).values(
                session_id=session_id,
                purpose=purpose,
                basis="",
                result_id="r" * 22,
                document=f'{{"decision": "{decision}", "threshold": 70{known}}}',
                domain_id=console.domain_id,
                decided_at=to_us(console.clock()),
                decision=decision,
                reasons=reasons,
            )
        )


def names(page: WebPage) -> list[str]:
    assert page.status_code == 200, text_of(page)
    return re.findall(r'/calls/\w{22}">([\w-]+)</a>', page.text)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["replayed", "wanted", "stranger", "genuine"]),
        ({"voice": "ACCEPT"}, ["replayed", "genuine"]),
        ({"fraud": "HIGH_RISK"}, ["replayed", "wanted"]),
        ({"reason": "VOICE_SPOOFING"}, ["replayed"]),
        ({"voice": "REJECT", "reason": "KNOWN_FRAUDSTER"}, ["wanted"]),
        ({"status": "ONGOING"}, []),
        ({"from": "2026-03-01T14:00", "to": "2026-03-01T16:00"}, ["wanted", "stranger"]),
        ({"voice": "ACCEPT", "from": "2026-03-02T00:00"}, []),
    ],
)
def test_calls_are_found_by_what_was_decided_and_when(
    calls: dict[str, str], admin: Person, filters: dict[str, str], expected: list[str]
) -> None:
    assert names(admin.get("/calls", **filters)) == expected


@pytest.mark.parametrize("filters", [{"voice": "maybe"}, {"from": "yesterday"}, {"status": "'"}])
def test_a_filter_that_makes_no_sense_is_refused(admin: Person, filters: dict[str, str]) -> None:
    assert admin.get("/calls", **filters).status_code == 400


def test_pages_of_calls_keep_their_filters(console: ConsoleTestbed, admin: Person) -> None:
    for number in range(55):
        session = console.call("StartSession", SessionName=f"many-{number}")["Session"]["SessionId"]
        decide(console, session, "AUTHENTICATION", "SPEAKER_ID_NOT_PROVIDED", "")
        console.call("EndStream", SessionNameOrId=session)
    first = admin.get("/calls", voice="SPEAKER_ID_NOT_PROVIDED")
    following = re.search(r'href="([^"]+)" rel="next"', first.text)
    assert following is not None
    second = admin.web.get(following[1].replace("&amp;", "&"))
    assert sorted(names(first) + names(second)) == sorted(f"many-{n}" for n in range(55))


def test_a_call_is_found_by_its_name(calls: dict[str, str], console: ConsoleTestbed, admin: Person) -> None:
    found = admin.post("/calls/find", name="wanted")
    assert found.headers["location"] == f"{console.base}/calls/{calls['wanted']}"
    assert admin.post("/calls/find", name="unheard-of").status_code == 404


def test_a_call_shows_decisions_scores_and_reasons(calls: dict[str, str], admin: Person) -> None:
    said = text_of(admin.get(f"/calls/{calls['replayed']}"))
    assert "Score 91, accepted from 70 on." in said
    assert "Known fraudster: risk 80." in said
    assert "Decision on fraud High risk" in said


def test_listening_can_be_stopped(console: ConsoleTestbed, admin: Person) -> None:
    session = console.call("StartSession", SessionName="to-stop")["Session"]["SessionId"]
    path = f"/calls/{session.removeprefix('id#')}"
    assert 'data-refresh="3"' in admin.get(path).text
    done = admin.post(f"{path}/end", page=path)
    shown = admin.web.get(done.headers["location"])
    assert "Listening has ended" in text_of(shown)
    assert "data-refresh" not in shown.text


def test_the_overview_counts_the_last_day(
    calls: dict[str, str], console: ConsoleTestbed, admin: Person
) -> None:
    said = text_of(admin.get())
    assert "Authenticated, 24 hours2" in said
    assert "High risk, 24 hours2 Known fraudster: 2 Voice spoofing: 1" in said
    assert "<title>Fraud detection: 4 calls in the last 24 hours</title>" in admin.get().text
    hours = console.call("DescribeActivity", Hours=2)["Hours"]
    assert len(hours) == 2
    console.pass_time(hours=24)
    assert "High risk, 24 hours0" in text_of(console.person().get())
