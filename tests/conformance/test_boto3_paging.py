"""Listing in pages: by the client's own paginators, and by hand with MaxResults and NextToken."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from client_faults import refused
from service_process import ServiceProcess


@pytest.fixture(scope="module")
def crowded(service: ServiceProcess) -> tuple[str, list[str]]:
    """A domain with 105 speakers, more than a default page; and their ids in order of making."""
    domain_id = service.domain("crowded")
    return domain_id, [
        service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId=f"customer-{number}")["Speaker"][
            "CustomerSpeakerId"
        ]
        for number in range(105)
    ]


def walk(call: Any, member: str, identifier: str, **parameters: Any) -> list[list[str]]:
    """All pages of a listing, fetched by hand."""
    pages: list[list[str]] = []
    token: dict[str, str] = {}
    while True:
        answer = call(**parameters, **token)
        pages.append([item[identifier] for item in answer[member]])
        if "NextToken" not in answer:
            return pages
        assert len(pages) < 200, "the listing does not end"
        token = {"NextToken": answer["NextToken"]}


@pytest.mark.parametrize(
    ("page_size", "sizes"),
    [(None, [100, 5]), (100, [100, 5]), (35, [35, 35, 35]), (36, [36, 36, 33]), (53, [53, 52])],
)
def test_speakers_come_in_full_pages_each_once_and_oldest_first(
    service: ServiceProcess, crowded: tuple[str, list[str]], page_size: int | None, sizes: list[int]
) -> None:
    domain_id, made = crowded
    parameters = {} if page_size is None else {"MaxResults": page_size}
    pages = walk(
        service.voice_id.list_speakers,
        "SpeakerSummaries",
        "CustomerSpeakerId",
        DomainId=domain_id,
        **parameters,
    )
    assert [len(page) for page in pages] == sizes
    assert [speaker for page in pages for speaker in page] == made


def test_the_clients_own_paginator_finds_the_same(
    service: ServiceProcess, crowded: tuple[str, list[str]]
) -> None:
    domain_id, made = crowded
    paginator = service.voice_id.get_paginator("list_speakers")
    pages = paginator.paginate(DomainId=domain_id, PaginationConfig={"PageSize": 50})
    assert [item["CustomerSpeakerId"] for page in pages for item in page["SpeakerSummaries"]] == made


def test_paginator_of_the_client_resumes_in_the_middle_of_a_page(
    service: ServiceProcess, crowded: tuple[str, list[str]]
) -> None:
    domain_id, made = crowded
    paginator = service.voice_id.get_paginator("list_speakers")
    limits = {"MaxItems": 30, "PageSize": 20}
    first = paginator.paginate(DomainId=domain_id, PaginationConfig=limits).build_full_result()
    second = paginator.paginate(
        DomainId=domain_id, PaginationConfig={**limits, "StartingToken": first["NextToken"]}
    ).build_full_result()
    found = [item["CustomerSpeakerId"] for part in (first, second) for item in part["SpeakerSummaries"]]
    assert found == made[:60]


def test_a_listing_goes_on_when_what_lies_before_it_is_deleted_or_added(service: ServiceProcess) -> None:
    domain_id = service.domain("moving")
    for number in range(5):
        service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId=f"customer-{number}")
    first = service.voice_id.list_speakers(DomainId=domain_id, MaxResults=2)
    # The very speaker that the token stands behind, and one who has been shown.
    for number in (0, 1):
        service.voice_id.delete_speaker(DomainId=domain_id, SpeakerId=f"customer-{number}")
    service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="customer-5")

    rest = service.voice_id.list_speakers(DomainId=domain_id, NextToken=first["NextToken"])

    shown = [item["CustomerSpeakerId"] for item in rest["SpeakerSummaries"]]
    assert shown == [f"customer-{number}" for number in (2, 3, 4, 5)]


def test_domains_come_ten_at_most(service: ServiceProcess) -> None:
    made = [service.domain(f"domain-{number}") for number in range(11)]

    pages = walk(service.voice_id.list_domains, "DomainSummaries", "DomainId")

    assert all(len(page) == 10 for page in pages[:-1])
    assert 0 < len(pages[-1]) <= 10
    found = [domain for page in pages for domain in page]
    assert len(found) == len(set(found))
    assert [domain for domain in found if domain in made] == made


def test_jobs_come_newest_first(service: ServiceProcess) -> None:
    domain_id = service.domain("jobs")
    made = [service.start_job(domain_id)["JobId"] for _ in range(5)]

    pages = walk(
        service.voice_id.list_speaker_enrollment_jobs,
        "JobSummaries",
        "JobId",
        DomainId=domain_id,
        MaxResults=2,
    )

    assert pages == [[made[4], made[3]], [made[2], made[1]], [made[0]]]


@pytest.mark.parametrize(
    ("operation", "sizes"),
    [
        ("list_domains", (0, -1, 11, 100, 2**31 - 1)),
        ("list_speakers", (0, -1, 101, 2**31 - 1)),
        ("list_speaker_enrollment_jobs", (0, -1, 101, 2**31 - 1)),
    ],
)
def test_a_page_size_beyond_the_range_is_refused(
    service: ServiceProcess, domain_id: str, operation: str, sizes: tuple[int, ...]
) -> None:
    parameters = {} if operation == "list_domains" else {"DomainId": domain_id}
    for size in sizes:
        fault = refused(getattr(service.unchecked, operation), **parameters, MaxResults=size)
        assert fault.code == "ValidationException"
        assert "'maxResults'" in fault.message


def test_an_empty_token_is_no_token(service: ServiceProcess, crowded: tuple[str, list[str]]) -> None:
    domain_id, made = crowded
    answer = service.voice_id.list_speakers(DomainId=domain_id, MaxResults=1, NextToken="")
    assert [item["CustomerSpeakerId"] for item in answer["SpeakerSummaries"]] == made[:1]


def test_a_token_of_another_call_is_refused(service: ServiceProcess, crowded: tuple[str, list[str]]) -> None:
    domain_id, _ = crowded
    other_id = service.domain("other")
    api = service.voice_id
    for _ in range(2):
        service.start_job(domain_id)
    speakers = api.list_speakers(DomainId=domain_id, MaxResults=1)["NextToken"]
    jobs = api.list_speaker_enrollment_jobs(DomainId=domain_id, MaxResults=1)["NextToken"]
    domains = api.list_domains(MaxResults=1)["NextToken"]

    for call, parameters, token in (
        (api.list_speakers, {"DomainId": domain_id}, jobs),
        (api.list_speakers, {"DomainId": domain_id}, domains),
        (api.list_speakers, {"DomainId": other_id}, speakers),
        (api.list_domains, {}, speakers),
        (api.list_speaker_enrollment_jobs, {"DomainId": domain_id}, speakers),
        (api.list_speaker_enrollment_jobs, {"DomainId": other_id}, jobs),
        (api.list_speaker_enrollment_jobs, {"DomainId": domain_id, "JobStatus": "FAILED"}, jobs),
    ):
        fault = refused(call, **parameters, NextToken=token)
        assert fault.code == "ValidationException"
        assert "NextToken" in fault.message
        assert token not in fault.message


def test_a_token_that_was_tampered_with_is_refused(
    service: ServiceProcess, crowded: tuple[str, list[str]]
) -> None:
    domain_id, _ = crowded
    token = service.voice_id.list_speakers(DomainId=domain_id, MaxResults=1)["NextToken"]
    raw = base64.urlsafe_b64decode(token)
    flipped = [
        raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :] for place in (0, len(raw) // 2, len(raw) - 1)
    ]
    bad = [base64.urlsafe_b64encode(each).decode() for each in (*flipped, raw[:-1], raw + b"\0")]
    for forged in (*bad, token + "=", token[:-1], "x", "not base64 !", "A" * 8192, "\x00", "\x7f"):
        assert refused(service.voice_id.list_speakers, DomainId=domain_id, NextToken=forged).code == (
            "ValidationException"
        )


@pytest.mark.parametrize("token", ["A" * 8193, "ümlaut"])
def test_a_token_that_the_model_does_not_allow_is_refused(
    service: ServiceProcess, domain_id: str, token: str
) -> None:
    fault = refused(service.unchecked.list_speakers, DomainId=domain_id, NextToken=token)
    assert fault.message.startswith("1 validation error detected: ")


def test_a_token_shows_nothing_of_what_it_stands_for(
    service: ServiceProcess, crowded: tuple[str, list[str]]
) -> None:
    domain_id, _ = crowded
    answer = service.voice_id.list_speakers(DomainId=domain_id, MaxResults=1)
    speaker = answer["SpeakerSummaries"][0]
    raw = base64.urlsafe_b64decode(answer["NextToken"])
    for text in (speaker["GeneratedSpeakerId"], speaker["CustomerSpeakerId"], domain_id):
        assert text.encode() not in raw
