"""Paging options of the list commands, by the AWS CLI and by `sonant voice-id`."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from service_process import Ended, ServiceProcess

Run = Callable[..., Ended]


@pytest.fixture(params=["aws", "sonant"])
def run(request: pytest.FixtureRequest, service: ServiceProcess) -> Run:
    command: Callable[..., Ended] = getattr(service, request.param)
    return lambda *arguments: command("voice-id", *arguments)


@pytest.fixture(scope="module")
def five(service: ServiceProcess) -> str:
    """A domain with five speakers."""
    domain_id = service.domain("five")
    for number in range(5):
        service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId=f"s{number}")
    return domain_id


def speakers(answer: Ended) -> list[str]:
    assert (answer.code, answer.err) == (0, "")
    return [item["CustomerSpeakerId"] for item in json.loads(answer.out)["SpeakerSummaries"]]


def test_all_pages_are_joined_by_default(run: Run, five: str) -> None:
    done = run("list-speakers", "--domain-id", five, "--page-size", "2")
    assert speakers(done) == ["s0", "s1", "s2", "s3", "s4"]
    assert set(json.loads(done.out)) == {"SpeakerSummaries"}


def test_listing_can_be_resumed(run: Run, five: str) -> None:
    first = run("list-speakers", "--domain-id", five, "--page-size", "2", "--max-items", "3")
    token = json.loads(first.out)["NextToken"]
    rest = run("list-speakers", "--domain-id", five, "--page-size", "2", "--starting-token", token)
    assert speakers(first) + speakers(rest) == ["s0", "s1", "s2", "s3", "s4"]


def test_one_call_shows_the_services_own_token(run: Run, service: ServiceProcess, five: str) -> None:
    done = run("list-speakers", "--domain-id", five, "--no-paginate", "--max-results", "2")
    assert speakers(done) == ["s0", "s1"]
    token = json.loads(done.out)["NextToken"]
    rest = service.voice_id.list_speakers(DomainId=five, NextToken=token)
    assert [item["CustomerSpeakerId"] for item in rest["SpeakerSummaries"]] == ["s2", "s3", "s4"]


def test_the_hidden_option_turns_paging_off(run: Run, five: str) -> None:
    assert speakers(run("list-speakers", "--domain-id", five, "--max-results", "1")) == ["s0"]


def test_text_output_applies_the_query_page_by_page(run: Run, five: str) -> None:
    done = run(
        *("list-speakers", "--domain-id", five, "--page-size", "2"),
        *("--query", "SpeakerSummaries[].CustomerSpeakerId", "--output", "text"),
    )
    assert (done.code, done.out) == (0, "s0\ts1\ns2\ts3\ns4\n")


def test_a_page_of_domains_larger_than_the_models_is_refused(run: Run) -> None:
    done = run("list-domains", "--page-size", "100")
    assert done.code == 255
    assert "An error occurred (ValidationException) when calling the ListDomains operation" in done.err
    assert "Value '100' at 'maxResults' failed to satisfy constraint" in done.err


def test_unknown_token_is_refused(run: Run, five: str) -> None:
    done = run("list-speakers", "--domain-id", five, "--starting-token", "nonsense")
    assert done.code == 255
    assert done.err.strip()
