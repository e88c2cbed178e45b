"""The pages of the audit trail, of users and roles, of settings and keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from console_testbed import NOTHING, ConsoleTestbed, Person, console_on, text_of

from sonant.settings import Console
from sonant.storage.repositories import access


def operations_in(file: str) -> list[str]:
    return [json.loads(line)["eventName"] for line in file.splitlines()]


def test_the_audit_page_shows_who_did_what_and_not_to_whom(console: ConsoleTestbed, admin: Person) -> None:
    speaker = console.enroll("secret-customer").removeprefix("id#")
    admin.post(f"/speakers/{speaker}/opt-out", secret=True)
    page = admin.get("/audit", operation="OptOutSpeaker")
    said = text_of(page)
    assert "OptOutSpeaker" in said and admin.key_id in said and "done" in said
    assert "secret-customer" not in page.text
    assert "OptOutSpeaker" not in text_of(admin.get("/audit", operation="OptOutSpeaker", principal="nobody"))


def test_records_are_found_by_failure_time_and_domain(console: ConsoleTestbed, admin: Person) -> None:
    console.person(NOTHING).get("/speakers")
    console.write_trail(admin)
    failed = text_of(admin.get("/audit", failed="1"))
    assert "AccessDeniedException" in failed and "done" not in failed.partition("Result")[2]
    assert "No record is like that" in text_of(admin.get("/audit", **{"from": "2026-03-05T00:00"}))
    assert "ConsoleLogin" not in text_of(admin.get("/audit"))
    assert "ConsoleLogin" in text_of(admin.get("/audit", all="1"))


def test_records_of_a_search_are_saved_whole(console: ConsoleTestbed, admin: Person) -> None:
    for name in ("saved-1", "saved-2", "saved-3"):
        admin.post("/fraud/create", name=name)
        console.pass_time(seconds=1)
    names = operations_in(admin.get("/audit/audit.jsonl", operation="CreateWatchlist").text)
    assert names == ["CreateWatchlist"] * len(names)
    made = console.call("ListWatchlists", MaxResults=100)["WatchlistSummaries"]
    assert len(names) == len(made) - 1, "the default one was made with its domain"


def test_pages_of_records_follow_each_other(console: ConsoleTestbed, admin: Person) -> None:
    token = admin.post("/speakers/find", id="nobody").text.partition('name="token" value="')[2][:64]
    for number in range(54):
        console.pass_time(seconds=1)
        form = {"token": token, "id": f"nobody-{number}"}
        assert admin.web.post(f"{console.base}/speakers/find", data=form).status_code == 404
    console.write_trail(admin)
    everything = operations_in(admin.get("/audit/audit.jsonl", operation="DescribeSpeaker").text)
    first = admin.get("/audit", operation="DescribeSpeaker")
    shown = first.text.count('data-label="Operation">DescribeSpeaker')
    after = first.text.partition("after=")[2].partition('"')[0].replace("&amp;", "&").partition("&")[0]
    second = admin.web.get(f"{console.base}/audit?operation=DescribeSpeaker&after={after}")
    assert shown == 50
    assert shown + second.text.count('data-label="Operation">DescribeSpeaker') == len(everything) > 54


def test_a_trail_is_checked_and_a_changed_line_is_named(tmp_path: Path) -> None:
    with console_on(tmp_path / "data") as console:
        admin = console.person()
        admin.post("/fraud/create", name="before")
        assert "The trail is whole" in text_of(admin.get("/audit", verify="1"))
        (file,) = (console.store.settings.data / "audit").glob("*.jsonl")
        file.write_bytes(file.read_bytes().replace(b"CreateWatchlist", b"DeleteWatchlist"))
        said = text_of(admin.get("/audit", verify="1"))
        assert "The trail is not whole" in said and file.name in said


def test_users_are_shown_with_policies_and_ages_of_keys(tmp_path: Path) -> None:
    with console_on(tmp_path / "data") as console:
        old = console.person(signed_in=False)
        console.pass_time(days=91)
        admin, former = console.person(), console.person(signed_in=False)
        with console.store.database.write() as connection:
            access.set_active(connection, former.key_id, False)
        page = admin.get("/access")
        said = text_of(page)
        assert "older than 90 days" in said and "switched off" in said
        assert old.key_id in said and old.secret not in page.text
        assert "Allow" in said


def test_other_accounts_see_their_own_and_no_settings(console: ConsoleTestbed) -> None:
    other = console.person(account="1" * 12)
    said = text_of(other.get("/access"))
    assert "person1 " not in said and "1" * 12 in said
    assert "installation's first account" in text_of(other.get("/settings"))
    assert "OptOutSpeaker" not in text_of(other.get("/audit", all="1"))
    assert "first account" in text_of(other.get("/audit", all="1", verify="1"))


def test_settings_are_shown_with_their_values_and_secrets_are_not(tmp_path: Path) -> None:
    with console_on(tmp_path / "data", Console(idle_s=777.0)) as console:
        admin = console.person()
        said = text_of(admin.get("/settings", changed="1"))
        assert "console.idle_s" in said and "777" in said and "default: 1800" in said
        assert "console.session_s" not in said
        everything = text_of(admin.get("/settings"))
        assert "events.webhook_secret" in everything and "secret, not set" in everything
        assert "alias/sonant" in everything and "Enabled" in everything


@pytest.mark.parametrize("days", [1, 400])
def test_keys_are_shown_with_their_age(tmp_path: Path, days: int) -> None:
    with console_on(tmp_path / "data") as console:
        console.pass_time(days=days)
        assert f"{days} day" in text_of(console.person().get("/settings"))
