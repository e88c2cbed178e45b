"""Sessions of the console: how long they last, what ends them, and which forms they accept."""

from __future__ import annotations

import re

import pytest
from console_testbed import ConsoleTestbed, Person, text_of

NOBODY = "A" * 22


def form_token(person: Person, path: str) -> str:
    found = re.search(r'name="token" value="([0-9a-f]{64})"', person.get(path).text)
    assert found is not None
    return found[1]


def signed_in(person: Person) -> bool:
    return person.get("/speakers").status_code == 200


def test_a_page_asks_to_sign_in_and_comes_back_with_its_query(console: ConsoleTestbed) -> None:
    person = console.person(signed_in=False)
    refused = person.get("/jobs", kind="dry-run")
    assert refused.status_code == 303
    form = person.web.get(refused.headers["location"])
    action = re.search(r'action="([^"]+)"', form.text)
    assert action is not None
    keys = {"access-key-id": person.key_id, "secret-access-key": person.secret}
    signed = person.web.post(action[1].replace("&amp;", "&"), data=keys)
    assert signed.headers["location"] == f"{console.base}/jobs?kind=dry-run"


def test_a_failed_attempt_says_so_without_a_script(console: ConsoleTestbed) -> None:
    person = console.person(signed_in=False)
    person.secret = "wrong"
    refused = person.sign_in(f"{console.base}/jobs")
    assert "do not fit together" in text_of(person.web.get(refused.headers["location"]))


@pytest.mark.parametrize(
    "where", ["https://evil.example", "//evil.example", "/console/x/y/jobs", "/sign-out"]
)
def test_signing_in_leads_to_pages_of_the_console_only(console: ConsoleTestbed, where: str) -> None:
    assert console.person(signed_in=False).sign_in(where).headers["location"] == "/console/"


def test_a_session_ends_when_it_is_not_used(console: ConsoleTestbed) -> None:
    person = console.person()
    console.pass_time(minutes=29)
    assert signed_in(person)
    console.pass_time(minutes=29)
    assert signed_in(person), "the page before has renewed it"
    console.pass_time(minutes=31)
    assert not signed_in(person)


def test_a_page_that_only_refreshes_itself_does_not_keep_a_session(console: ConsoleTestbed) -> None:
    person, refresh = console.person(), {"X-Sonant-Refresh": "1"}
    for _ in range(3):
        console.pass_time(minutes=9)
        assert person.web.get(console.base, headers=refresh).status_code == 200
    console.pass_time(minutes=9)
    assert person.web.get(console.base, headers=refresh).status_code == 401


def test_the_open_page_of_a_call_keeps_a_session_until_its_end(console: ConsoleTestbed) -> None:
    session = console.call("StartSession", SessionName="long")["Session"]["SessionId"]
    person, state = console.person(), f"/sessions/{session.removeprefix('id#')}/state"
    for _ in range(23):
        console.pass_time(minutes=25)
        assert person.web.get(state).status_code == 200
    console.pass_time(minutes=28)
    assert person.web.get(state).status_code == 401, "ten hours after signing in"


def test_signing_out_everywhere_ends_all_sessions_of_the_key(console: ConsoleTestbed) -> None:
    first, second, other = console.person(), console.person(signed_in=False), console.person()
    second.key_id, second.secret = first.key_id, first.secret
    second.sign_in()
    assert signed_in(second)
    assert first.web.post("/sign-out", data={"everywhere": "1"}).status_code == 303
    assert not signed_in(first)
    assert not signed_in(second)
    assert signed_in(other)
    console.pass_time(seconds=1)
    first.sign_in()
    assert signed_in(first), "a session that begins later holds"


def test_a_form_without_the_token_of_its_session_changes_nothing(console: ConsoleTestbed) -> None:
    person, other = console.person(), console.person()
    speaker = console.enroll("token-holder").removeprefix("id#")
    path, page = f"/speakers/{speaker}/opt-out", f"/speakers/{speaker}"
    for token in ("", "0" * 64, form_token(other, page)):
        refused = person.post(path, page=page, secret=True, token=token)
        assert refused.status_code == 403
        assert "not of this session" in text_of(refused)
    status = console.call("DescribeSpeaker", SpeakerId="token-holder")["Speaker"]["Status"]
    assert status == "ENROLLED"


def test_a_form_of_another_site_changes_nothing(console: ConsoleTestbed) -> None:
    person = console.person()
    speaker = console.enroll("bystander").removeprefix("id#")
    form = {"token": form_token(person, f"/speakers/{speaker}"), "secret-access-key": person.secret}
    where = f"{console.base}/speakers/{speaker}/delete"
    assert person.web.post(where, data=form, headers={"Origin": "https://evil.example"}).status_code == 403
    assert console.call("DescribeSpeaker", SpeakerId="bystander")["Speaker"]["Status"] == "ENROLLED"


def test_destroying_needs_the_secret_again_and_then_for_five_minutes_not(console: ConsoleTestbed) -> None:
    person = console.person()
    one, two, three = (console.enroll(f"step-{n}").removeprefix("id#") for n in range(3))
    for given in ({}, {"secret-access-key": "wrong"}):
        refused = person.post(f"/speakers/{one}/opt-out", given)
        assert refused.status_code == 403
        assert "not the secret of your access key" in text_of(refused)
    assert console.call("DescribeSpeaker", SpeakerId="step-0")["Speaker"]["Status"] == "ENROLLED"
    assert person.post(f"/speakers/{one}/opt-out", secret=True).status_code == 303
    console.pass_time(minutes=4)
    assert "once more" not in text_of(person.get(f"/speakers/{two}"))
    assert person.post(f"/speakers/{two}/opt-out").status_code == 303
    console.pass_time(minutes=2)
    assert "once more" in text_of(person.get(f"/speakers/{three}"))
    assert person.post(f"/speakers/{three}/opt-out").status_code == 403


def test_a_secret_that_was_typed_is_never_shown_again(console: ConsoleTestbed) -> None:
    person = console.person()
    speaker = console.enroll("typed").removeprefix("id#")
    refused = person.post(f"/speakers/{speaker}/delete", {"secret-access-key": "typed-by-mistake"})
    assert "typed-by-mistake" not in refused.text


def test_a_form_after_the_session_has_ended_leads_to_the_sign_in(console: ConsoleTestbed) -> None:
    person = console.person()
    token = form_token(person, "/speakers")
    console.pass_time(hours=11)
    sent = person.web.post(f"{console.base}/speakers/find", data={"token": token, "id": "x"})
    assert (sent.status_code, sent.headers["location"].partition("?")[0]) == (303, "/sign-in")


def test_files_need_a_session(console: ConsoleTestbed) -> None:
    person = console.person(signed_in=False)
    refused = person.get(f"/speakers/{NOBODY}/export.json")
    assert (refused.status_code, refused.headers["location"].partition("?")[0]) == (303, "/sign-in")
