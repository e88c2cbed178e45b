"""What is installed is locked, what is built is described, and both can be checked."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from smoke import REPOSITORY

sys.path.append(str(REPOSITORY / "tools"))

import audit
import lock
import locked
import provenance
import sbom

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
SOURCE = provenance.Source(commit="c" * 40, clean=True)
LOCK_FILES = sorted(locked.LOCKS.glob("*.txt"))

every_lock = pytest.mark.parametrize("file", LOCK_FILES, ids=lambda file: file.stem)


# --- locks --------------------------------------------------------------------------------------------


def test_locks_fit_the_projects_requirements() -> None:
    assert list(lock.find_faults(locked.LOCKS)) == []


@every_lock
def test_lock_names_no_registry_and_no_option(file: Path) -> None:
    text = file.read_text("utf-8")
    assert not re.search(r"https?:|file:|index-url|find-links|trusted-host", text)
    assert not [line for line in text.splitlines() if line.startswith("-")]
    assert str(REPOSITORY) not in text and "/tmp/" not in text


@every_lock
def test_lock_admits_several_files_of_what_is_compiled(file: Path) -> None:
    packages = {one.name: one for one in locked.read_lock(file.read_text("utf-8"))}
    for name in {"numpy", "onnxruntime", "cryptography", "soxr"} & packages.keys():
        # At least wheels for two processors and, but for stable ABIs, for three Pythons.
        assert len(packages[name].sha256) >= 4, name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("numpy==2.0\n", "not pinned by version and hash"),
        ("numpy>=2.0 --hash=sha256:" + "0" * 64, "not pinned by version and hash|not a requirement"),
        ("numpy==2.0,!=2.0.1 \\\n    --hash=sha256:" + "0" * 64, "not pinned"),
        ("--index-url x\n", "an option stands in a lock"),
        ("numpy @ file:///tmp/numpy.whl \\\n    --hash=sha256:" + "0" * 64, "not pinned"),
    ],
)
def test_line_that_is_not_pinned_and_hashed_is_refused(text: str, said: str) -> None:
    with pytest.raises(locked.NotALock, match=said):
        locked.read_lock(text)


def test_lock_of_other_requirements_is_found(tmp_path: Path) -> None:
    for file in LOCK_FILES:
        (tmp_path / file.name).write_text(file.read_text("utf-8"), "utf-8")
    base = tmp_path / "base.txt"
    numpy = next(one for one in locked.read_lock(base.read_text("utf-8")) if one.name == "numpy")
    base.write_text(
        base.read_text("utf-8")
        .replace(f"numpy=={numpy.version}", "numpy==1.0")
        .replace("click==", "clack=="),
        "utf-8",
    )
    (tmp_path / "media.txt").unlink()
    (tmp_path / "old.txt").write_text("")
    faults = "\n".join(lock.find_faults(tmp_path))
    assert "base.txt has numpy 1.0, not >=2.0" in faults
    assert "base.txt lacks click" in faults
    assert "media.txt is missing" in faults
    assert "old.txt is of no extra" in faults
    assert "numpy has several versions" in faults


def test_make_and_ci_install_from_locks_alone() -> None:
    lines = (REPOSITORY / "Makefile").read_text("utf-8").splitlines()
    installs = [line for line in lines if "pip install" in line and not line.lstrip().startswith("#")]
    assert installs
    for line in installs:
        assert "--no-deps" in line
        assert "--require-hashes" in line or line.endswith("--no-build-isolation --editable .")
    assert "pip install" not in (REPOSITORY / ".ci" / "run").read_text("utf-8")


# --- SBOM ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("dist") / "sonant-9.9-py3-none-any.whl"
    file.write_bytes(b"a wheel")
    return file


def components(text: str) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in json.loads(text)["components"]}


def test_sbom_is_valid_cyclonedx_and_the_same_every_time(wheel: Path) -> None:
    for write in (lambda: sbom.wheel_sbom(wheel, ["cli"], NOW), lambda: sbom.image_sbom(["cli"], NOW)):
        text = write()
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
        assert write() == text


def test_sbom_lists_all_locked_packages_and_what_needs_them(wheel: Path) -> None:
    document = json.loads(sbom.wheel_sbom(wheel, ["postgres"], NOW))
    names = {one["name"] for one in document["components"]}
    for extra in ("base", "postgres"):
        text = (locked.LOCKS / f"{extra}.txt").read_text("utf-8")
        assert {one.name for one in locked.read_lock(text)} <= names
    reached, waiting = set(), ["sonant"]
    needs = {one["ref"]: one.get("dependsOn", []) for one in document["dependencies"]}
    while waiting:
        ref = waiting.pop()
        if ref not in reached:
            reached.add(ref)
            waiting += needs[ref]
    assert reached == {"sonant", *(one["bom-ref"] for one in document["components"])}
    (own,) = document["metadata"]["component"]["hashes"]
    assert own == {"alg": "SHA-256", "content": hashlib.sha256(b"a wheel").hexdigest()}


def test_sbom_lists_the_networks_with_their_hashes(wheel: Path) -> None:
    listed = components(sbom.wheel_sbom(wheel, [], NOW))
    for entry in json.loads((sbom.MODELS / "models.json").read_text("utf-8")):
        network = listed[entry["file"]]
        assert network["type"] == "machine-learning-model"
        assert network["hashes"] == [{"alg": "SHA-256", "content": entry["sha256"]}]


def test_sbom_of_the_image_names_its_base_and_no_other_systems_packages() -> None:
    listed = components(sbom.image_sbom(["cli", "postgres"], NOW))
    tag, _, digest = sbom.base_image(sbom.DOCKERFILE.read_text("utf-8"))
    assert listed["python"]["version"] == tag
    assert listed["python"]["hashes"][0]["content"] == digest
    assert {"awscli", "psycopg", "numpy"} <= set(listed)
    assert "uvloop" in listed  # not for Windows
    (uvloop,) = (
        one
        for one in locked.read_lock((locked.LOCKS / "base.txt").read_text("utf-8"))
        if one.name == "uvloop"
    )
    for marker, wanted in (
        ('sys_platform == "win32"', False),
        ('python_version < "3.11"', False),
        ("", True),
    ):
        assert locked.applies(replace(uvloop, marker=marker), sbom.image_environment("3.12")) is wanted


# --- provenance ---------------------------------------------------------------------------------------


@pytest.fixture
def built(tmp_path: Path) -> list[Path]:
    files = [tmp_path / "sonant-9.9-py3-none-any.whl", tmp_path / "sonant-9.9.tar.gz"]
    for file in files:
        file.write_bytes(file.name.encode())
    return files


def test_statement_names_files_commit_locks_and_base_image(built: list[Path]) -> None:
    document = provenance.statement(built, SOURCE, NOW, NOW)
    assert (document["_type"], document["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/provenance/v1",
    )
    assert [one["name"] for one in document["subject"]] == [file.name for file in built]
    materials = {
        one["name"]: one["digest"] for one in document["predicate"]["buildDefinition"]["resolvedDependencies"]
    }
    assert materials["source"] == {"gitCommit": SOURCE.commit}
    assert {f"locks/{file.name}" for file in LOCK_FILES} | {"deploy/Dockerfile", "source"} == set(materials)
    assert provenance.verify(document, built, None) == SOURCE.commit


def test_statement_of_changed_source_is_refused(built: list[Path]) -> None:
    with pytest.raises(provenance.ProvenanceFault, match="the work tree has changes"):
        provenance.statement(built, replace(SOURCE, clean=False), NOW, NOW)


def test_another_file_than_the_built_one_is_found(built: list[Path]) -> None:
    document = provenance.statement(built, SOURCE, NOW, NOW)
    built[0].write_bytes(b"exchanged")
    with pytest.raises(provenance.ProvenanceFault, match="is not the file that was built"):
        provenance.verify(document, built, None)
    with pytest.raises(provenance.ProvenanceFault, match="is not about another"):
        provenance.verify(document, [built[1].rename(built[1].with_name("another"))], None)


def test_signature_holds_for_the_key_and_the_content(built: list[Path]) -> None:
    key = Ed25519PrivateKey.generate()
    signed = provenance.envelope(provenance.statement(built, SOURCE, NOW, NOW), key)
    assert provenance.verify(signed, built, key.public_key()) == SOURCE.commit
    changed = json.loads(base64.b64decode(signed["payload"]))
    changed["subject"][0]["digest"]["sha256"] = "0" * 64
    forged = {**signed, "payload": base64.b64encode(json.dumps(changed).encode()).decode()}
    for wrong, public in (
        (signed, Ed25519PrivateKey.generate().public_key()),
        (forged, key.public_key()),
        ({**signed, "payloadType": "text/plain"}, key.public_key()),
        ({**signed, "signatures": []}, key.public_key()),
        (provenance.statement(built, SOURCE, NOW, NOW), key.public_key()),
    ):
        with pytest.raises(provenance.ProvenanceFault, match="not signed"):
            provenance.verify(wrong, built, public)


def test_signed_bytes_are_those_of_dsse() -> None:
    # The example of the DSSE protocol's specification.
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert provenance.pre_authentication("http://example.com/HelloWorld", b"hello world") == expected


# --- advisories ---------------------------------------------------------------------------------------

REPORT = {
    "dependencies": [
        {"name": "numpy", "version": "2.0", "vulns": []},
        {
            "name": "ray",
            "version": "2.60.0",
            "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1", "GHSA-1"], "fix_versions": []}],
        },
    ]
}
ANSWER = """
[[answer]]
advisory = "CVE-1"
reason = "the dashboard listens on loopback only"
until = 2027-01-01
"""


@pytest.mark.parametrize(
    ("answers", "today", "left"),
    [
        ("", date(2026, 12, 1), 1),
        (ANSWER, date(2026, 12, 1), 0),
        (ANSWER, date(2027, 1, 1), 1),
        (ANSWER.replace("CVE-1", "CVE-2"), date(2026, 12, 1), 1),
    ],
)
def test_advisory_is_open_unless_answered_for_now(answers: str, today: date, left: int) -> None:
    found = audit.findings(REPORT)
    assert [(one.package, one.ids) for one in found] == [("ray", ("PYSEC-1", "CVE-1", "GHSA-1"))]
    assert len(list(audit.unanswered(found, audit.read_answers(answers), today))) == left


def test_committed_answers_can_be_read() -> None:
    for answer in audit.read_answers(audit.ANSWERS.read_text("utf-8")):
        assert answer.reason and isinstance(answer.until, date)
