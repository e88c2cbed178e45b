"""Part `wire`: signed calls against a bare Starlette route, one process each, in the same run.

The bare route answers a constant: what HTTP in Python costs here without any work. A DescribeSpeaker is as
large as an EvaluateSession; ListSpeakers gives a page of 100 of 100,000.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager

import http_load
from describe import ROUNDS, Side, captured, describe_job
from listening import listening
from report import Outcome, Ratio, Size
from service import Running, data_folder, serving

BATCH = 1000
TARGET = 0.25

_BARE = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

async def answer(request):
    await request.body()
    return Response(b"{}", media_type="application/x-amz-json-1.0")

uvicorn.run(Starlette(routes=[Route("/", answer, methods=["POST"])]), host="127.0.0.1", port=int(sys.argv[1]),
            access_log=False, log_level="warning")
"""


def measure(size: Size, _peers: bool) -> Outcome:
    seconds, count = size.pick(3.0, 1.0, 0.2), size.pick(100_000, 10_000, 1_000)
    with data_folder() as data, serving(data) as service, _bare() as (url, pid):
        requests = _requests(service, count)
        bare = Side(url, http_load.request_bytes(url, {"Content-Type": "application/json"}, b"{}"), pid)
        sides = {name: Side(service.url, request, service.pid) for name, request in requests.items()}
        for _ in range(ROUNDS):
            bare.run(seconds)
            for side in sides.values():
                side.run(seconds)
    floor = bare.load()
    ratios = [
        Ratio(
            part="wire",
            name=f"{name} / a bare Starlette route",
            ours=load.rate,
            theirs=floor.rate,
            unit="requests/s",
            # Only the describe call has a target; the others are told beside it.
            target=TARGET if name.startswith("DescribeSpeakerEnrollmentJob") else 0.0,
            at_least=True,
            note=f"p50 {load.percentile_ms(50):.2f} ms, p99 {load.percentile_ms(99):.2f} ms",
        )
        for name, load in ((name, side.load()) for name, side in sides.items())
    ]
    details = {name: side.facts() for name, side in sides.items()} | {"bare": bare.facts(), "speakers": count}
    return Outcome(ratios=ratios, details=details)


def _requests(service: Running, count: int) -> dict[str, bytes]:
    """Signed calls as they go over the wire, on a domain with so many speakers."""
    own = service.client("sonant")
    describe = describe_job(service)
    client = service.client()
    domain_id = client.list_domains()["DomainSummaries"][0]["DomainId"]
    for start in range(0, count, BATCH):
        own.import_opt_outs(
            DomainId=domain_id, SpeakerIds=[f"customer-{number}" for number in range(start, start + BATCH)]
        )
    return {
        "DescribeSpeakerEnrollmentJob": describe,
        "DescribeSpeaker, the size of an EvaluateSession": captured(
            client,
            lambda: client.describe_speaker(DomainId=domain_id, SpeakerId=f"customer-{count // 2}"),
            service.url,
        ),
        f"ListSpeakers, 100 of {count:,}": captured(
            client, lambda: client.list_speakers(DomainId=domain_id, MaxResults=100), service.url
        ),
    }


def _bare() -> AbstractContextManager[tuple[str, int]]:
    """A uvicorn with one route on a free port: (URL, process id)."""
    return listening("bare", lambda port: (sys.executable, "-c", _BARE, str(port)))
