"""PostgreSQL with very many speakers in one domain: `python bench/postgres.py [--speakers 1000000]`.

Not part of `make bench`: it takes minutes and some gigabytes. The speakers are written straight into the
tables, sealed as the service seals them, each with a voiceprint and without audio; then a real `sonant serve`
is asked. In the same database a domain of 1,000 speakers is asked in turns, so that a change in the machine's
load meets both. The server is one of our own with PostgreSQL's own durable settings (fsync on), on loopback.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from sqlalchemy import select

import http_load
from report import add_size
from service import data_folder, serving

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from postgres_server import NoServer, OwnServer

from sonant.assembly.installation import migrate, open_store
from sonant.cli.credentials import read_credentials
from sonant.ids import new_generated_id
from sonant.settings import Postgres, Settings
from sonant.storage.crypto.vault import Vault, open_vault
from sonant.storage.database.schema import speakers
from sonant.storage.repositories import domains
from sonant.storage.times import now, to_us

SMALL = 1_000
#: Calls of each kind that are timed one by one.
CALLS = 400
CONNECTIONS, ROUNDS = 8, 3
MODEL, VECTOR = "bench", bytes(1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_size(parser)
    parser.add_argument("--speakers", type=int, help="of the large domain [1000000, quick 100000, tiny 2000]")
    parser.add_argument("--json", type=Path, help="write the figures here")
    asked = parser.parse_args()
    try:
        server = OwnServer(quick=False)
    except NoServer as why:
        sys.exit(f"no PostgreSQL: {why}")
    try:
        with data_folder() as data:
            settings = Settings(data=data, database=server.url, postgres=Postgres(statement_timeout_s=0))
            migrate(settings)
            seconds = asked.size.pick(3.0, 1.0, 0.2)
            count = asked.speakers or asked.size.pick(1_000_000, 100_000, 2_000)
            figures = _measure(settings, count, seconds)
            figures["database_mib"] = sum(
                path.stat().st_size for path in (server.folder / "data" / "base").rglob("*") if path.is_file()
            ) / (1 << 20)
    finally:
        server.close()
    print(json.dumps(figures, indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n")


def _measure(settings: Settings, count: int, seconds: float) -> dict[str, Any]:
    environment = {
        "SONANT_DATABASE": settings.database,
        "SONANT_RATES_FACTOR": "0",
        "SONANT_QUOTAS_SPEAKERS_PER_DOMAIN": str(2 * count + SMALL),
        "SONANT_JOBS_BESIDE_SERVICE": "false",
    }
    with serving(settings.data, environment) as service:
        sizes = {"small": SMALL, "large": count}
        sides = {name: service.create_domain() for name in sizes}
        begun = time.perf_counter()
        for name, size in sizes.items():
            _fill(settings, sides[name], size)
        figures: dict[str, Any] = {"speakers": sizes, "filled_in_s": time.perf_counter() - begun}
        caller = _Caller(settings, service.url)
        figures |= _latencies(settings, caller, sides, sizes)
        figures["requests_per_s"] = _rates(caller, service.url, sides, sizes, seconds)
    rates = figures["requests_per_s"]
    figures["large_to_small"] = {what: rates["large"][what] / rates["small"][what] for what in rates["small"]}
    return figures


def _fill(settings: Settings, domain_id: str, count: int) -> None:
    """Speakers `customer-0` and so on, by COPY."""
    store = open_store(settings)
    with store.database.write() as connection:
        domain = domains.find_by_id(connection, domain_id)
        assert domain is not None
        keys = store.accounts.keys(domain.account_id)
        vault = open_vault(keys, domain_id, domain.arn, domain.data_key_wrapped)
        driver: Any = connection.connection.driver_connection
        start = 0
        while start < count:
            batch = list(_people(vault, domain_id, start, min(count, start + 10_000)))
            for table, place in (("speakers", 0), ("speaker_keys", 1), ("voiceprints", 2)):
                names = batch[0][place]
                with driver.cursor().copy(
                    f"COPY {table} ({', '.join(names)}) FROM STDIN (FORMAT BINARY)"
                ) as copy:
                    copy.set_types(_TYPES[table])
                    for rows in batch:
                        copy.write_row(list(rows[place].values()))
            start += len(batch)
        driver.execute("INSERT INTO speaker_counts VALUES (%s, %s)", (domain_id, count))
    with store.database.single() as connection:
        connection.exec_driver_sql("VACUUM (ANALYZE) speakers, speaker_keys, voiceprints")
        connection.exec_driver_sql("CHECKPOINT")  # else what is timed waits for what was filled in
    store.database.close()


_TYPES = {
    "speakers": ["varchar", "varchar", "bytea", "bytea", "varchar", "int8", "int8", "int8"],
    "speaker_keys": ["varchar", "bytea"],
    "voiceprints": ["varchar", "varchar", "bytea", "float8", "int8"],
}


def _people(vault: Vault, domain_id: str, start: int, end: int) -> Iterator[tuple[dict[str, Any], ...]]:
    moment = to_us(now())
    for number in range(start, end):
        speaker_id, customer = new_generated_id(), f"customer-{number}"
        seal, wrapped = vault.new_speaker(speaker_id)
        at = moment - (end - number)
        yield (
            {
                "speaker_id": speaker_id,
                "domain_id": domain_id,
                "customer_id_hash": vault.lookup(customer),
                "customer_id_sealed": seal.seal("customer id", customer.encode()),
                "status": "ENROLLED",
                "created_at": at,
                "updated_at": at,
                "last_accessed_at": at,
            },
            {"speaker_id": speaker_id, "wrapped": wrapped},
            {
                "speaker_id": speaker_id,
                "model_id": MODEL,
                "vector_sealed": seal.seal(f"voiceprint {MODEL}", VECTOR),
                "net_speech_s": 30.0,
                "created_at": at,
            },
        )


#: Headers and body.
Signed = tuple[dict[str, str], bytes]


class _Caller:
    """Signs requests beforehand, so that only the service is timed."""

    def __init__(self, settings: Settings, url: str) -> None:
        self._key, self._region, self._url = Credentials(*read_credentials(settings)), settings.region, url

    def signed(self, operation: str, **members: Any) -> Signed:
        body = json.dumps(members).encode()
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"VoiceID.{operation}"}
        request = AWSRequest("POST", self._url + "/", headers=headers, data=body)
        SigV4Auth(self._key, "voiceid", self._region).add_auth(request)
        return dict(request.headers.items()), body

    def timed(self, requests: dict[str, list[Signed]]) -> dict[str, list[float]]:
        """Milliseconds of each call, one after the other on one connection, one of each list in turn."""
        parts = urlsplit(self._url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        took: dict[str, list[float]] = {name: [] for name in requests}
        for turn in zip(*requests.values(), strict=True):
            for name, (headers, body) in zip(requests, turn, strict=True):
                begun = time.perf_counter()
                connection.request("POST", "/", body, headers)
                answer = connection.getresponse()
                content = answer.read()
                took[name].append(1000 * (time.perf_counter() - begun))
                if answer.status != 200:
                    raise RuntimeError(content.decode())
        connection.close()
        return took


def _latencies(
    settings: Settings, caller: _Caller, sides: dict[str, str], sizes: dict[str, int]
) -> dict[str, dict[str, Any]]:
    """Milliseconds of single calls, one on each domain in turn."""
    chance = random.Random(1)
    places = {name: chance.sample(range(size), min(CALLS, SMALL // 2)) for name, size in sizes.items()}
    middles = {name: _token(settings, domain_id, sizes[name] // 2) for name, domain_id in sides.items()}

    def of_speakers(operation: str, prefix: str) -> dict[str, list[Signed]]:
        return {
            name: [
                caller.signed(operation, DomainId=domain_id, SpeakerId=f"{prefix}-{place}")
                for place in places[name]
            ]
            for name, domain_id in sides.items()
        }

    def pages(tokens: dict[str, str]) -> dict[str, list[Signed]]:
        return {
            name: [
                caller.signed(
                    "ListSpeakers",
                    DomainId=domain_id,
                    MaxResults=100,
                    **({"NextToken": tokens[name]} if tokens else {}),
                )
            ]
            * (CALLS // 4)
            for name, domain_id in sides.items()
        }

    caller.timed(of_speakers("DescribeSpeaker", "customer"))  # warm
    parts = {
        "describe": of_speakers("DescribeSpeaker", "customer"),
        "first_page_of_100": pages({}),
        "middle_page_of_100": pages(middles),
        "opt_out_known": of_speakers("OptOutSpeaker", "customer"),
        "opt_out_new": of_speakers("OptOutSpeaker", "stranger"),
    }
    figures: dict[str, dict[str, Any]] = {name: {} for name in sides}
    for what, requests in parts.items():
        for name, took_ms in caller.timed(requests).items():
            figures[name][what] = _figures(took_ms)
    return figures


def _token(settings: Settings, domain_id: str, place: int) -> str:
    """The token of the page that begins behind so many speakers."""
    store = open_store(settings)
    query = select(speakers.c.created_at, speakers.c.speaker_id).where(speakers.c.domain_id == domain_id)
    with store.database.read() as connection:
        last = connection.execute(
            query.order_by(speakers.c.created_at, speakers.c.speaker_id).offset(place).limit(1)
        ).one()
    store.database.close()
    position = json.dumps([last.created_at, last.speaker_id, to_us(now())])
    sealed = store.secret.seal_page(f"ListSpeakers\x00{domain_id}", position.encode())
    return base64.urlsafe_b64encode(sealed).decode()


def _rates(
    caller: _Caller, url: str, sides: dict[str, str], sizes: dict[str, int], seconds: float
) -> dict[str, dict[str, float]]:
    """Describes and pages a second, both domains in turns."""
    makers: dict[str, Callable[[str, int], tuple[str, dict[str, Any]]]] = {
        "describe": lambda domain, size: (
            "DescribeSpeaker", {"DomainId": domain, "SpeakerId": f"customer-{size - 1}"}
        ),
        "list_page_of_10": lambda domain, _: ("ListSpeakers", {"DomainId": domain, "MaxResults": 10}),
    }  # fmt: skip
    found: dict[str, dict[str, float]] = {name: {} for name in sides}
    for what, make in makers.items():
        loads: dict[str, list[http_load.Load]] = {name: [] for name in sides}
        for _ in range(ROUNDS):
            for name, domain_id in sides.items():
                operation, members = make(domain_id, sizes[name])
                headers, body = caller.signed(operation, **members)
                request = http_load.request_bytes(url, headers, body)
                loads[name].append(http_load.run(url, request, connections=CONNECTIONS, seconds=seconds))
        for name, runs in loads.items():
            total = runs[0]
            for run in runs[1:]:
                total = total + run
            found[name][what] = total.rate
    return found


def _figures(took_ms: list[float]) -> dict[str, float]:
    ordered = sorted(took_ms)
    return {f"p{percent}_ms": ordered[len(ordered) * percent // 100] for percent in (50, 95, 99)}


if __name__ == "__main__":
    main()
