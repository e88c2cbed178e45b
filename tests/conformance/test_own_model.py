"""Sonant's own service model in the official clients: boto3 and the AWS CLI load it from its folder."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import soundfile
from client_faults import refused
from service_process import BIN, REGION, ROLE, ServiceProcess, ended, environment

from sonant.demo.recordings import ManifestEntry, write_manifest
from sonant.gateway.models import DATA_PATH

OTHER = "AbCdEfGhIjKlMnOpQrStUv"


@pytest.fixture(scope="module")
def sonant_api(service: ServiceProcess) -> Any:
    return service.own_client()


@pytest.fixture(scope="module")
def enrolled(service: ServiceProcess, make_call: Any, voices: Any) -> tuple[str, list[str]]:
    """A domain with two enrolled speakers and one who opted out; recordings of the first under s3://voices."""
    bucket = service.data / "buckets" / "voices"
    bucket.mkdir()
    names = list(voices)[:2]
    entries = []
    for number, voice in enumerate(names):
        (bucket / f"{number}.wav").write_bytes(make_call(voice, 1))
        entries.append(
            ManifestEntry(
                request_id=f"r{number}", speaker_id=f"s{number}", audio=((f"s3://voices/{number}.wav", 0),)
            )
        )
    (bucket / "fresh.wav").write_bytes(make_call(names[0], 2, fresh=True, net_speech_s=12.0))
    (bucket / "short.wav").write_bytes(make_call(names[0], 3, net_speech_s=3.0, duration_s=8.0, channels=1))
    (bucket / "text.wav").write_bytes(b"this is no recording")
    (bucket / "manifest.json").write_bytes(write_manifest(entries))
    domain_id = service.domain("voices")
    service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="refuser")
    job = service.ended_job(domain_id, service.start_job(domain_id, "s3://voices/manifest.json")["JobId"])
    assert job["JobStatus"] == "COMPLETED", job
    return domain_id, [entry.speaker_id for entry in entries]


def comparison(domain_id: str, speakers: list[str], uri: str = "s3://voices/fresh.wav") -> dict[str, Any]:
    return {
        "DomainId": domain_id,
        "DataAccessRoleArn": ROLE,
        "AudioSpecification": {"S3Uri": uri, "ChannelId": 0},
        "SpeakerIds": speakers,
    }


@pytest.mark.xdist_group("own model")
class TestEnrolledVoices:
    def test_a_fresh_recording_is_most_like_its_own_speaker(
        self, sonant_api: Any, enrolled: tuple[str, list[str]]
    ) -> None:
        domain_id, speakers = enrolled
        answer = sonant_api.compare_recording(**comparison(domain_id, speakers))

        assert set(answer) == {
            "Comparisons",
            "NetSpeechSeconds",
            "ResponseMetadata",
            "SignalToNoiseDecibels",
        }
        assert [item["CustomerSpeakerId"] for item in answer["Comparisons"]] == speakers
        own, other = (item["Similarity"] for item in answer["Comparisons"])
        assert 1 >= own > other >= -1
        assert answer["NetSpeechSeconds"] == pytest.approx(12, abs=4)

    def test_an_export_holds_the_voiceprint_and_the_speech_it_was_made_from(
        self, sonant_api: Any, enrolled: tuple[str, list[str]]
    ) -> None:
        domain_id, speakers = enrolled
        answer = sonant_api.export_speaker(DomainId=domain_id, SpeakerId=speakers[0])
        assert answer["Speaker"]["Status"] == "ENROLLED"
        kept = answer["Voiceprint"]
        assert set(kept) == {"Audio", "CreatedAt", "ModelId", "NetSpeechSeconds", "Vector"}
        assert np.linalg.norm(np.frombuffer(kept["Vector"], "<f4")) == pytest.approx(1, abs=1e-4)
        speech = soundfile.info(io.BytesIO(kept["Audio"]))
        assert (speech.format, speech.samplerate, speech.channels) == ("FLAC", 8000, 1)
        assert speech.duration == pytest.approx(kept["NetSpeechSeconds"], abs=1)

    def test_watching_the_job_that_enrolled_them_ends_with_0(
        self, service: ServiceProcess, enrolled: tuple[str, list[str]]
    ) -> None:
        domain_id, _ = enrolled
        (job,) = service.voice_id.list_speaker_enrollment_jobs(DomainId=domain_id)["JobSummaries"]
        done = service.sonant("job", "watch", job["JobId"])
        first, result = done.out.splitlines()
        assert (done.code, first, done.err) == (0, f"{job['JobId']} COMPLETED", "")
        assert service.sonant("object", "get", result.removeprefix("result: ")).code == 0

    def test_it_changes_nothing(
        self, service: ServiceProcess, sonant_api: Any, enrolled: tuple[str, list[str]]
    ) -> None:
        domain_id, speakers = enrolled
        before = service.voice_id.list_speakers(DomainId=domain_id)["SpeakerSummaries"]
        sonant_api.compare_recording(**comparison(domain_id, speakers))
        assert service.voice_id.list_speakers(DomainId=domain_id)["SpeakerSummaries"] == before

    def test_an_enrolled_speaker_has_a_time_of_last_access_exact_to_the_hour(
        self, service: ServiceProcess, enrolled: tuple[str, list[str]]
    ) -> None:
        domain_id, speakers = enrolled
        speaker = service.voice_id.describe_speaker(DomainId=domain_id, SpeakerId=speakers[0])["Speaker"]
        assert speaker["Status"] == "ENROLLED"
        begun_hour = speaker["UpdatedAt"].replace(minute=0, second=0, microsecond=0)
        assert speaker["LastAccessedAt"] == max(begun_hour, speaker["CreatedAt"])

    def test_both_ids_of_a_speaker_will_do(
        self, service: ServiceProcess, sonant_api: Any, enrolled: tuple[str, list[str]]
    ) -> None:
        domain_id, speakers = enrolled
        found = service.voice_id.describe_speaker(DomainId=domain_id, SpeakerId=speakers[0])["Speaker"]
        answer = sonant_api.compare_recording(**comparison(domain_id, [found["GeneratedSpeakerId"]]))
        (item,) = answer["Comparisons"]
        assert item["CustomerSpeakerId"] == speakers[0]
        assert item["GeneratedSpeakerId"] == found["GeneratedSpeakerId"]

    @pytest.mark.parametrize(
        ("change", "code", "told"),
        [
            ({"SpeakerIds": ["secret-nobody"]}, "ResourceNotFoundException", "speaker"),
            ({"SpeakerIds": ["refuser"]}, "ValidationException", "not enrolled"),
            ({"DomainId": OTHER}, "ResourceNotFoundException", "domain"),
            ({"uri": "s3://voices/absent.wav"}, "ValidationException", "s3://voices/absent.wav"),
            ({"uri": "s3://absent-bucket/x.wav"}, "ValidationException", "s3://absent-bucket: there is no"),
            ({"uri": "s3://voices/text.wav"}, "ValidationException", ""),
            ({"uri": "s3://voices/short.wav"}, "ValidationException", "not enough speech"),
            ({"uri": "s3://voices/../voices/fresh.wav"}, "ValidationException", ""),
            (
                {"AudioSpecification": {"S3Uri": "s3://voices/short.wav", "ChannelId": 1}},
                "ValidationException",
                "channel",
            ),
            ({"DataAccessRoleArn": "arn:aws:iam::000000000000:role/nobody"}, "AccessDeniedException", "role"),
        ],
    )
    def test_what_cannot_be_compared_is_reported(
        self,
        sonant_api: Any,
        enrolled: tuple[str, list[str]],
        change: dict[str, Any],
        code: str,
        told: str,
    ) -> None:
        domain_id, speakers = enrolled
        asked = {**comparison(domain_id, speakers[:1]), **change}
        if uri := asked.pop("uri", None):
            asked["AudioSpecification"] = {"S3Uri": uri, "ChannelId": 0}
        fault = refused(sonant_api.compare_recording, **asked)
        assert fault.code == code
        assert told in fault.message.lower()
        assert "secret" not in fault.message

    def test_the_aws_cli_runs_it(self, service: ServiceProcess, enrolled: tuple[str, list[str]]) -> None:
        domain_id, speakers = enrolled
        done = service.aws(
            *("sonant", "compare-recording", "--domain-id", domain_id, "--data-access-role-arn", ROLE),
            *("--audio-specification", "S3Uri=s3://voices/fresh.wav,ChannelId=0", "--speaker-ids", *speakers),
            AWS_DATA_PATH=str(DATA_PATH),
        )
        assert (done.code, done.err) == (0, "")
        assert [item["CustomerSpeakerId"] for item in json.loads(done.out)["Comparisons"]] == speakers

    def test_opting_out_destroys_the_voiceprint_and_only_deletion_leads_back(
        self, service: ServiceProcess, sonant_api: Any, enrolled: tuple[str, list[str]]
    ) -> None:
        # The last of this class: it changes what the others share.
        domain_id, speakers = enrolled
        who = {"DomainId": domain_id, "SpeakerId": speakers[1]}
        before = service.voice_id.describe_speaker(**who)["Speaker"]

        after = service.voice_id.opt_out_speaker(**who)["Speaker"]

        assert (before["Status"], after["Status"]) == ("ENROLLED", "OPTED_OUT")
        for name in ("CreatedAt", "CustomerSpeakerId", "GeneratedSpeakerId"):
            assert after[name] == before[name]
        assert after["UpdatedAt"] > before["UpdatedAt"]
        fault = refused(sonant_api.compare_recording, **comparison(domain_id, [speakers[1]]))
        assert (fault.code, "not enrolled" in fault.message) == ("ValidationException", True)

        def enroll_again() -> str:
            job_id = service.start_job(domain_id, "s3://voices/manifest.json")["JobId"]
            return str(service.ended_job(domain_id, job_id)["JobStatus"])

        assert enroll_again() == "COMPLETED_WITH_ERRORS"
        service.voice_id.delete_speaker(**who)
        assert enroll_again() == "COMPLETED"
        again = service.voice_id.describe_speaker(**who)["Speaker"]
        assert again["Status"] == "ENROLLED"
        assert again["GeneratedSpeakerId"] != before["GeneratedSpeakerId"]


def test_the_aws_cli_shows_its_help_pages(service: ServiceProcess) -> None:
    for page in ([], ["compare-recording"]):
        done = ended(
            [str(BIN / "aws"), "sonant", *page, "help"],
            environment(AWS_DATA_PATH=str(DATA_PATH)),
            cwd=service.data.parent,
        )
        assert (done.code, done.err) == (0, "")
        assert "compare-recording" in done.out


def test_an_installed_copy_is_found_without_a_word(service: ServiceProcess, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = ended([str(BIN / "sonant"), "client", "install"], {**environment(), "HOME": str(home)}, tmp_path)
    assert (done.code, done.err) == (0, "")
    assert str(home / ".aws" / "models") in done.out
    shown = ended(
        [str(BIN / "aws"), "sonant", "restore-domain", "--generate-cli-skeleton"],
        {**environment(), "HOME": str(home)},
        tmp_path,
    )
    assert json.loads(shown.out) == {"DomainId": ""}


def test_copy_in_another_folder_is_reported_with_the_variable_to_set(
    service: ServiceProcess, tmp_path: Path
) -> None:
    done = service.sonant("client", "install", str(tmp_path / "models"))
    variable, _, folder = done.out.rpartition("export ")[2].strip().partition("=")
    assert (done.code, variable, folder) == (0, "AWS_DATA_PATH", str(tmp_path / "models"))
    for _ in range(2):  # again: the same
        assert service.sonant("client", "install", folder).code == 0
    found = {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}
    assert found == {str(path.relative_to(DATA_PATH)) for path in DATA_PATH.rglob("*") if path.is_file()}
    (tmp_path / "file").write_text("")
    assert service.sonant("client", "install", str(tmp_path / "file" / "below")).code == 1


def test_boto3_loads_it_from_the_environment(
    service: ServiceProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DATA_PATH", str(DATA_PATH))
    session = boto3.Session()
    assert "sonant" in session.get_available_services()
    client = session.client(
        "sonant",
        region_name=REGION,
        endpoint_url=service.url,
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    assert "CompareRecording" in client.meta.service_model.operation_names
    assert "voice-id" in session.get_available_services()
