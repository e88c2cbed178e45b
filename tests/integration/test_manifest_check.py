"""`sonant manifest check`: a dry run without a server."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from batch_values import entry, manifest
from click.testing import CliRunner
from strict_files import read_report

from sonant.cli.main import main

CALLS = "s3://calls"


@pytest.fixture(scope="module")
def check(testbed, tmp_path_factory):
    """Run the command on a manifest: its exit code and what it printed."""
    folder = tmp_path_factory.mktemp("manifests")
    settings = folder / "sonant.toml"
    settings.write_text(
        f'database = "{testbed.settings.database}"\n'
        f"[enrollment]\nnet_speech_s = {testbed.settings.enrollment.net_speech_s}\n[jobs]\nworkers = 1\n"
    )

    def run(entries, *options, uri=None):
        if uri is None:
            uri = folder / "manifest.json"
            uri.write_bytes(entries if isinstance(entries, bytes) else manifest(entries))
        where = ["--data", testbed.settings.data, "--config", settings]
        words = [str(word) for word in ("manifest", "check", uri, *options, *where)]
        done = CliRunner().invoke(main, words)
        return SimpleNamespace(returncode=done.exit_code, stdout=done.stdout, stderr=done.stderr)

    return run


def test_a_manifest_that_would_do_ends_with_zero_and_leaves_no_speaker(testbed, domain, check):
    done = check([entry("r1", "customer-1", f"{CALLS}/english.wav")], "--domain", domain)
    assert (done.returncode, done.stderr) == (0, "")
    assert "would be enrolled" in done.stdout
    assert "1 requests: 1 likely to succeed, 0 likely to fail" in done.stdout
    assert testbed.speakers(domain) == {}


def test_requests_that_would_fail_are_listed_with_the_job_s_messages(testbed, domain, check, tmp_path):
    entries = [
        entry("good", "customer-1", f"{CALLS}/english.wav"),
        entry("short\x1b[31m", "customer-2", f"{CALLS}/russian-short.wav"),
        entry("<script>alert(1)</script>", "customer-3", f"{CALLS}/absent.wav"),
    ]
    report, page = tmp_path / "r.json", tmp_path / "r.html"
    done = check(entries, "--json", report, "--html", page)
    job = testbed.enroll(domain, entries)
    assert done.returncode == 1
    for _, message in job.errors.values():
        assert message in done.stdout
    assert "\x1b" not in done.stdout
    assert "<script>" not in page.read_text()
    assert "&lt;script&gt;" in page.read_text()
    told = read_report(report.read_bytes())
    assert told["Summary"]["LikelyToFail"] == 2
    assert {line["RequestId"] for line in told["Requests"]} == {one["RequestId"] for one in entries}


def test_who_is_enrolled_in_the_domain_would_be_skipped(testbed, domain, check):
    entries = [entry("r1", "customer-1", f"{CALLS}/english.wav")]
    testbed.enroll(domain, entries)
    assert "would be skipped, enrolled already" in check(entries, "--domain", domain).stdout
    assert "would be enrolled anew" in check(entries, "--domain", domain, "--overwrite").stdout
    assert "would be enrolled\n" in check(entries).stdout + "\n"


def test_a_manifest_in_a_bucket_is_read_as_the_role_may(testbed, check):
    uri = testbed.put("s3://jobs/check/m.json", manifest([entry("r1", "c-1", f"{CALLS}/english.wav")]))
    assert check(None, uri=uri).returncode == 0
    nothing = testbed.put_role({"Effect": "Allow", "Action": "s3:PutObject", "Resource": "*"})
    done = check(None, "--role", nothing, uri=uri)
    assert done.returncode == 2
    assert "has no right s3:GetObject" in done.stderr


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"not json", "is not valid JSON"),
        (b'{"Version": "1.0", "SpeakerEnrollmentRequests": []}', "holds no requests"),
    ],
)
def test_a_broken_manifest_ends_with_two(check, content, what):
    done = check(content)
    assert done.returncode == 2
    assert what in done.stderr


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--role", "arn:aws:iam::000000000000:role/nobody"), "does not exist"),
        (("--domain", "AbCdEfGhIjKlMnOpQrStUv"), "no active domain"),
    ],
)
def test_a_check_that_cannot_be_made_ends_with_two(check, options, what):
    done = check([entry("r1", "c-1", f"{CALLS}/english.wav")], *options)
    assert done.returncode == 2
    assert what in done.stderr


def test_a_manifest_that_is_not_there_ends_with_two(check, tmp_path):
    done = check(None, uri=tmp_path / "absent.json")
    assert done.returncode == 2
    assert "No such file" in done.stderr


def test_one_recording_under_two_ids_would_be_refused_as_a_job_refuses_it(testbed, domain, check):
    entries = [entry(f"r{n}", f"c-{n}", f"{CALLS}/english.wav") for n in (1, 2)]
    for options in ((), ("--domain", domain)):
        done = check(entries, *options)
        assert done.returncode == 1
        assert "would fail: 400 fraud check failed: VoiceSpoofingRisk is 100" in done.stdout
