"""The pages of speakers, receipts, watchlists and fraudsters: find, change, delete with a proof."""

from __future__ import annotations

import json
import re

import pytest
from console_testbed import READ_ONLY, ConsoleTestbed, Person, text_of


def test_a_speaker_is_found_by_either_id_without_an_id_in_an_address(
    console: ConsoleTestbed, admin: Person
) -> None:
    generated = console.enroll("alice")
    for wanted in ("alice", generated, "  alice "):
        found = admin.post("/speakers/find", id=wanted)
        assert found.headers["location"] == f"{console.base}/speakers/{generated.removeprefix('id#')}"
    said = text_of(admin.web.get(found.headers["location"]))
    assert "alice Enrolled" in said.replace("aliceEnrolled", "alice Enrolled")
    assert generated in said


@pytest.mark.parametrize(
    ("wanted", "status", "said"),
    [("Alice", 404, "There is no speaker Alice"), ("", 400, "Give the id"), ("a b", 400, "validation")],
)
def test_a_search_that_finds_nobody_says_why(
    console: ConsoleTestbed, admin: Person, wanted: str, status: int, said: str
) -> None:
    refused = admin.post("/speakers/find", id=wanted)
    assert refused.status_code == status
    assert said in text_of(refused)


def test_the_list_of_speakers_goes_on_page_by_page(console: ConsoleTestbed, admin: Person) -> None:
    for number in range(60):
        console.pass_time(seconds=1)
        console.call("OptOutSpeaker", SpeakerId=f"listed-{number:02}")
    seen, path = list[str](), f"{console.base}/speakers"
    while path:
        shown = admin.web.get(path)
        seen += re.findall(r">(listed-\d\d)</a>", shown.text)
        following = re.search(r'href="([^"]+)" rel="next"', shown.text)
        path = following[1].replace("&amp;", "&") if following else ""
    assert seen == [f"listed-{number:02}" for number in range(60)]
    assert f'href="{console.base}/speakers"' in shown.text


def test_a_speakers_page_has_the_calls_with_their_decisions(console: ConsoleTestbed, admin: Person) -> None:
    speaker = console.enroll("caller").removeprefix("id#")
    console.call("StartSession", SessionName="of-caller", SpeakerId="caller")
    console.call("EvaluateSession", SessionNameOrId="of-caller")
    console.call("StartSession", SessionName="of-another", SpeakerId="another")
    said = text_of(admin.get(f"/speakers/{speaker}"))
    assert "of-caller Waiting for audio Not enough speech" in said
    assert "of-another" not in said


def test_opting_out_destroys_the_voice_and_says_so(console: ConsoleTestbed, admin: Person) -> None:
    speaker = console.enroll("leaves").removeprefix("id#")
    done = admin.post(f"/speakers/{speaker}/opt-out", secret=True)
    said = text_of(admin.web.get(done.headers["location"]))
    assert "The speaker has opted out." in said
    assert "Opt out leaves" not in said, "it is done"
    assert console.call("ExportSpeaker", SpeakerId="leaves").get("Voiceprint") is None


CONSENT = {
    "TextHash": "ab" * 32,
    "TextVersion": "notice 3",
    "Purpose": "verification of callers",
    "Channel": "letter",
}


def test_a_consent_is_recorded_and_shown(console: ConsoleTestbed, admin: Person) -> None:
    speaker = console.enroll("agrees").removeprefix("id#")
    assert "No consent of this speaker is recorded." in text_of(admin.get(f"/speakers/{speaker}"))
    fields = {**CONSENT, "until": "2027-05-01T00:00", "Evidence": "box 7"}
    done = admin.post(f"/speakers/{speaker}/record-consent", fields)
    shown = admin.web.get(done.headers["location"])
    said = text_of(shown)
    assert "The consent was recorded." in said
    assert "verification of callers Valid notice 3 letter" in said and "box 7" in said
    assert 'value="notice 3"' in shown.text, "the next one is likely to be of the same text"
    stored = console.call("DescribeConsent", SpeakerId="agrees")["Consent"]
    assert {name: stored[name] for name in CONSENT} == CONSENT
    assert stored["ExpiresAt"].isoformat() == "2027-05-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"TextHash": "no hash"}, "validation"),
        ({"Purpose": ""}, "Purpose"),
        ({"until": "never"}, "is no time"),
    ],
)
def test_a_consent_that_cannot_be_is_refused_and_kept_in_the_form(
    console: ConsoleTestbed, admin: Person, changed: dict[str, str], said: str
) -> None:
    speaker = console.enroll(f"unclear-{next(iter(changed))}").removeprefix("id#")
    refused = admin.post(f"/speakers/{speaker}/record-consent", {**CONSENT, **changed})
    assert refused.status_code == 400
    assert said in refused.text and 'value="letter"' in refused.text
    assert "No consent of this speaker is recorded." in text_of(admin.get(f"/speakers/{speaker}"))


def test_withdrawing_a_consent_asks_for_the_secret_and_opts_out(
    console: ConsoleTestbed, admin: Person
) -> None:
    speaker = console.enroll("regrets").removeprefix("id#")
    admin.post(f"/speakers/{speaker}/record-consent", CONSENT)
    assert admin.post(f"/speakers/{speaker}/withdraw-consent").status_code == 403
    done = admin.post(f"/speakers/{speaker}/withdraw-consent", secret=True)
    said = text_of(admin.web.get(done.headers["location"]))
    assert "The consent was withdrawn" in said and "Withdrawn" in said
    assert "Record a consent" not in said
    assert console.call("ExportSpeaker", SpeakerId="regrets").get("Voiceprint") is None


def test_deleting_ends_with_a_receipt_that_holds(console: ConsoleTestbed, admin: Person) -> None:
    speaker = console.enroll("forgotten").removeprefix("id#")
    done = admin.post(f"/speakers/{speaker}/delete", secret=True)
    assert done.headers["location"] == f"{console.base}/receipts/{speaker}?done=deleted"
    said = text_of(admin.web.get(done.headers["location"]))
    assert "The speaker was deleted." in said and "forgotten" not in said
    receipt = json.loads(admin.get(f"/receipts/{speaker}/receipt.json").text)
    assert [one["action"] for one in receipt["deletions"]] == ["DELETE_SPEAKER"]
    assert receipt["signature"]
    by_customer_id = admin.post("/receipts/find", id="forgotten")
    assert json.loads(by_customer_id.text)["deletions"] == receipt["deletions"]
    assert admin.get(f"/speakers/{speaker}").status_code == 404


def test_there_is_no_receipt_of_a_person_who_is_back(console: ConsoleTestbed, admin: Person) -> None:
    speaker = console.enroll("returns").removeprefix("id#")
    admin.post(f"/speakers/{speaker}/delete", secret=True)
    console.enroll("returns")
    refused = admin.post("/receipts/find", id="returns")
    assert refused.status_code == 404
    assert "there again" in text_of(refused)
    assert "no deletion" in text_of(admin.post("/receipts/find", id="never-here"))


def test_an_export_holds_what_is_stored(console: ConsoleTestbed, admin: Person) -> None:
    speaker = console.enroll("exported").removeprefix("id#")
    file = admin.get(f"/speakers/{speaker}/export.json")
    assert file.headers["content-disposition"] == f'attachment; filename="speaker-{speaker}.json"'
    assert json.loads(file.text)["Speaker"]["CustomerSpeakerId"] == "exported"
    assert json.loads(file.text)["Voiceprint"]["Vector"]


def test_who_may_read_cannot_change(console: ConsoleTestbed) -> None:
    reader, speaker = console.person(READ_ONLY), console.enroll("protected").removeprefix("id#")
    for form in ("opt-out", "delete", "unlock"):
        refused = reader.post(f"/speakers/{speaker}/{form}", secret=True)
        assert refused.status_code == 403
        assert "is not authorized to perform" in text_of(refused)
    assert reader.get(f"/speakers/{speaker}/export.json").status_code == 403
    assert console.call("DescribeSpeaker", SpeakerId="protected")["Speaker"]["Status"] == "ENROLLED"


def test_unlocking_forgets_rejections(console: ConsoleTestbed, admin: Person) -> None:
    speaker = console.enroll("locked").removeprefix("id#")
    done = admin.post(f"/speakers/{speaker}/unlock")
    assert "open again" in text_of(admin.web.get(done.headers["location"]))


def test_a_watchlist_is_made_changed_and_deleted(console: ConsoleTestbed, admin: Person) -> None:
    made = admin.post("/fraud/create", name="phishing", description="calls of spring")
    path = made.headers["location"].partition("?")[0]
    assert "phishing" in text_of(admin.get("/fraud"))
    changed = admin.post(path[len(console.base) :] + "/change", name="vishing")
    assert "vishing" in text_of(admin.web.get(changed.headers["location"]))
    deleted = admin.post(path[len(console.base) :] + "/delete", secret=True)
    assert deleted.headers["location"] == f"{console.base}/fraud?done=list-deleted"
    assert "vishing" not in text_of(admin.get("/fraud"))


def test_a_wrong_name_of_a_watchlist_is_refused_and_kept_in_the_form(admin: Person) -> None:
    refused = admin.post("/fraud/create", name="\N{SNOWMAN}")
    assert refused.status_code == 400
    assert 'value="\N{SNOWMAN}"' in refused.text
    assert "Give the watchlist a name" in text_of(admin.post("/fraud/create"))


def test_a_fraudster_moves_between_lists_and_is_deleted_with_a_receipt(
    console: ConsoleTestbed, admin: Person
) -> None:
    made = console.call("CreateWatchlist", Name="second")["Watchlist"]["WatchlistId"]
    default = console.call("DescribeDomain")["Domain"]["WatchlistDetails"]["DefaultWatchlistId"]
    fraudster = console.add_fraudster(default).removeprefix("id#")
    path = f"/fraudsters/{fraudster}"
    admin.post(f"{path}/add", watchlist=made)
    assert f"id#{fraudster}" in text_of(admin.get(f"/watchlists/{made}"))
    still = admin.post(f"/watchlists/{made}/delete", secret=True)
    assert (still.status_code, "still holds" in text_of(still)) == (409, True)
    admin.post(f"{path}/remove", watchlist=default)
    refused = admin.post(f"{path}/remove", watchlist=made)
    assert "must stay on at least one" in text_of(refused)
    done = admin.post(f"{path}/delete")
    assert done.headers["location"] == f"{console.base}/receipts/{fraudster}?done=fraudster-deleted"
    assert "DELETE_FRAUDSTER" in admin.get(f"/receipts/{fraudster}/receipt.json").text
