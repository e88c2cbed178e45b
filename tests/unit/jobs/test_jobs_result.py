"""The result file: exact bytes, JSON that holds for any text, and constant memory."""

import tracemalloc
from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from strict_files import read_result
from strict_json import assert_same, read_json

from sonant.jobs.result import enrollment_line, error_line, output_name, registration_line
from sonant.jobs.result import result_file as file_of_kind

result_file = partial(file_of_kind, successes_name="SuccessfulEnrollments")
ENROLLED = enrollment_line("r1", "id#AbCdEfGhIjKlMnOpQrStUv", "customer-1", "NEW_ENROLLMENT")
SKIPPED = enrollment_line("r3", "id#AbCdEfGhIjKlMnOpQrStUv", "customer-1", "DUPLICATE_SKIPPED")
SHORT = error_line("r2", 400, "not enough speech: 3.1 s of net speech, at least 30.0 s needed")
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def written(errors, successes):
    return b"".join(result_file(errors, successes))


def test_the_file_is_exactly_this():
    assert written([SHORT], [ENROLLED, SKIPPED]).decode() == (
        '{\n  "Version": "1.0",\n  "Errors": [\n'
        '    {"RequestId":"r2","ErrorCode":400,'
        '"ErrorMessage":"not enough speech: 3.1 s of net speech, at least 30.0 s needed"}\n'
        '  ],\n  "SuccessfulEnrollments": [\n'
        '    {"RequestId":"r1","GeneratedSpeakerId":"id#AbCdEfGhIjKlMnOpQrStUv",'
        '"CustomerSpeakerId":"customer-1","EnrollmentStatus":"NEW_ENROLLMENT"},\n'
        '    {"RequestId":"r3","GeneratedSpeakerId":"id#AbCdEfGhIjKlMnOpQrStUv",'
        '"CustomerSpeakerId":"customer-1","EnrollmentStatus":"DUPLICATE_SKIPPED"}\n'
        "  ]\n}\n"
    )


def test_a_registrations_file_is_exactly_this():
    new = registration_line("r1", "id#AbCdEfGhIjKlMnOpQrStUv", "NEW_REGISTRATION", None)
    duplicate = registration_line("r2", "id#AbCdEfGhIjKlMnOpQrStUv", "DUPLICATE_SKIPPED", 0)
    written = b"".join(file_of_kind([], [new, duplicate], "SuccessfulRegistrations"))
    assert written.decode() == (
        '{\n  "Version": "1.0",\n  "Errors": [],\n  "SuccessfulRegistrations": [\n'
        '    {"RequestId":"r1","GeneratedFraudsterId":"id#AbCdEfGhIjKlMnOpQrStUv",'
        '"RegistrationStatus":"NEW_REGISTRATION"},\n'
        '    {"RequestId":"r2","GeneratedFraudsterId":"id#AbCdEfGhIjKlMnOpQrStUv",'
        '"RegistrationStatus":"DUPLICATE_SKIPPED","FraudsterSimilarityScore":0}\n'
        "  ]\n}\n"
    )


def test_both_lists_are_there_when_empty():
    assert read_result(written([], [])) == {"Version": "1.0", "Errors": [], "SuccessfulEnrollments": []}
    assert read_result(written([SHORT], []))["SuccessfulEnrollments"] == []
    assert read_result(written([], [ENROLLED]))["Errors"] == []


@given(st.lists(texts), st.lists(texts))
def test_any_text_comes_back_as_it_was_and_in_its_order(failed, enrolled):
    errors = [error_line(text, 400 + n, text) for n, text in enumerate(failed)]
    successes = [enrollment_line(text, f"id#{n}", text, "NEW_ENROLLMENT") for n, text in enumerate(enrolled)]
    read = read_json(written(iter(errors), iter(successes)))
    assert list(read) == ["Version", "Errors", "SuccessfulEnrollments"]
    assert_same(read["Errors"], errors)
    assert_same(read["SuccessfulEnrollments"], successes)


def test_an_outcome_is_asked_for_when_it_is_written_and_not_before():
    asked = []

    def outcomes(name, lines):
        for line in lines:
            asked.append(name)
            yield line

    pieces = result_file(outcomes("error", [SHORT] * 3), outcomes("success", [ENROLLED]))
    seen = b""
    while b"r2" not in seen:
        seen += next(pieces)
    assert asked == ["error"]
    for _ in pieces:
        pass
    assert asked == ["error"] * 3 + ["success"]


def test_memory_does_not_grow_with_the_number_of_outcomes():
    lines = (
        error_line(f"request-{n}", 404, "s3://calls/x.wav: there is no such object") for n in range(50_000)
    )
    tracemalloc.start()
    try:
        size = sum(map(len, result_file(lines, iter(()))))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 4_000_000
    assert peak < 200_000


def test_the_result_is_named_after_the_manifest_extension_kept():
    assert output_name("input-file.json") == "input-file.json.out"
    assert output_name("manifest") == "manifest.out"
