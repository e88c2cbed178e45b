"""A restore brings back who was deleted after the backup; events tell who that was."""

from __future__ import annotations

import time
from pathlib import Path

from client_faults import refused
from service_process import Ended, environment, running, sonant

SECRET = "correct horse battery"


def test_who_was_deleted_after_a_backup_is_deleted_again_after_its_restore(tmp_path: Path) -> None:
    backup, events = tmp_path / "sonant.backup", tmp_path / "before" / "events" / "events.jsonl"
    with running(tmp_path / "before", EVENTS_SINKS="file") as service:
        client, own, at = service.voice_id, service.own_client(), {"DomainId": service.domain()}
        for name in ("stays", "deleted", "refuses"):  # a session with a new speaker makes it
            own.start_session(**at, SessionName=name)
            own.update_session(**at, SessionNameOrId=name, SpeakerId=name)
        made = service.sonant("backup", str(backup), SONANT_BACKUP_PASSPHRASE=SECRET)
        assert made.code == 0, made.err

        client.delete_speaker(**at, SpeakerId="deleted")
        client.opt_out_speaker(**at, SpeakerId="refuses")
        client.opt_out_speaker(**at, SpeakerId="came-later")
        give_up = time.monotonic() + 30
        while not events.exists() or events.read_text().count("_SPEAKER") < 3:
            assert time.monotonic() < give_up, "the events did not arrive"
            time.sleep(0.05)

    after = tmp_path / "after"
    known = environment(SONANT_DATA=str(after), SONANT_BACKUP_PASSPHRASE=SECRET)
    restored = sonant("restore", str(backup), env=known, cwd=tmp_path)
    assert restored.code == 0, restored.err
    with running(after) as service:
        client = service.voice_id

        def statuses() -> dict[str, str]:
            found = client.list_speakers(**at)["SpeakerSummaries"]
            return {one["CustomerSpeakerId"]: one["Status"] for one in found}

        assert statuses() == dict.fromkeys(("stays", "deleted", "refuses"), "PENDING")

        done = service.sonant("domain", "repeat-deletions", str(events))

        told = "1 speakers deleted, 1 opted out, 0 fraudsters deleted; 1 were not there\n"
        assert done == Ended(code=0, out=told, err="")
        assert statuses() == {"stays": "PENDING", "refuses": "OPTED_OUT"}
        assert refused(client.describe_speaker, **at, SpeakerId="deleted").resource_type == "SPEAKER"
        again = service.sonant("domain", "repeat-deletions", str(events))
        assert again.out == "0 speakers deleted, 1 opted out, 0 fraudsters deleted; 2 were not there\n"

        wrong = service.sonant("domain", "repeat-deletions", str(backup))
        assert (wrong.code, wrong.out) == (1, "")
        assert wrong.err == f"sonant: {backup}, line 1: this is no event of Sonant's\n"

    unreachable = service.sonant("domain", "repeat-deletions", str(events))
    assert (unreachable.code, unreachable.out) == (1, "")
    assert "Could not connect" in unreachable.err
