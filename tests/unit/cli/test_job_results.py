"""Reasons of failed requests counted, written as CSV, and a manifest of them made."""

from __future__ import annotations

import csv
import io

import pytest

from sonant.cli.job_results import as_csv, manifest_of, reasons
from sonant.errors import SetupError


def error(request_id: str, code: int, message: str) -> dict[str, object]:
    return {"RequestId": request_id, "ErrorCode": code, "ErrorMessage": message}


def test_reasons_leave_out_objects_and_numbers() -> None:
    errors = [
        error("a", 400, "s3://calls/a.wav: 6.2 s of speech, at least 30 s are needed"),
        error("b", 400, "s3://calls/b 2.wav: 12 s of speech, at least 30 s are needed"),
        error("c", 404, "s3://calls/c.wav: there is no such object"),
        error("d", 400, "s3://calls/d.wav: 1,024.5 s of speech, at least 30 s are needed"),
        error("e", 400, "fraud check failed: VoiceSpoofingRisk is 100 (REPLAY), at least 50"),
    ]
    assert reasons(errors) == [
        (2, 400, "s3://...: N s of speech, at least N s are needed"),
        (1, 400, "s3://... N.wav: N s of speech, at least N s are needed"),
        (1, 404, "s3://...: there is no such object"),
        (1, 400, "fraud check failed: VoiceSpoofingRisk is N (REPLAY), at least N"),
    ]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_no_cell_is_a_formula(text: str) -> None:
    (row,) = list(csv.DictReader(io.StringIO(as_csv([error(text, 400, text)]), newline="")))
    assert (row["RequestId"], row["ErrorMessage"]) == (f"'{text}", f"'{text}")


def test_csv_keeps_commas_quotes_and_lines() -> None:
    (row,) = list(csv.DictReader(io.StringIO(as_csv([error("a,b", 400, 'said "no"\nand left')]), newline="")))
    assert (row["RequestId"], row["ErrorMessage"]) == ("a,b", 'said "no"\nand left')


def test_a_manifest_of_some_requests_keeps_their_order_and_all_else() -> None:
    manifest = {"Version": "1.0", "Requests": [{"RequestId": name, "X": name} for name in "abcd"]}
    assert manifest_of(manifest, "Requests", ["d", "b"]) == {
        "Version": "1.0",
        "Requests": [{"RequestId": "b", "X": "b"}, {"RequestId": "d", "X": "d"}],
    }
    assert manifest["Requests"][0] == {"RequestId": "a", "X": "a"}


def test_a_manifest_that_has_changed_is_refused() -> None:
    with pytest.raises(SetupError, match="the manifest has changed since the job"):
        manifest_of({"Requests": [{"RequestId": "z"}]}, "Requests", ["a"])
