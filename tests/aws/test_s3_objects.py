"""The S3 object store against rclone's server: real HTTP, real signatures, real files behind it.

It proves reading, writing, streams, lists, retries and refused signatures. It proves nothing of roles or of
sealing, which rclone does not know; those are in `test_s3_roles`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from aws_servers import KEY_ID, REGION, SECRET, Relay, certificate, rclone, relay
from waiting import PATIENCE_S

from sonant.errors import (
    BucketNotFound,
    InvalidObjectName,
    ObjectDenied,
    ObjectError,
    ObjectNotFound,
    ObjectTooLarge,
)
from sonant.jobs.faults import code_of
from sonant.storage.aws_clients import ClientConfig, make_client
from sonant.storage.objects import s3_store
from sonant.storage.objects.s3_store import PART_BYTES, S3ObjectStore
from sonant.storage.objects.store import ObjectUri

pytestmark = pytest.mark.xdist_group("aws")  # one set of servers

ONE = ObjectUri("calls", "2024/one.wav")


def store_at(url: str, *, secret: str = SECRET, attempts: int = 4, ca_bundle: str = "") -> S3ObjectStore:
    place = ClientConfig(
        region=REGION,
        endpoint=url,
        access_key_id=KEY_ID,
        secret_access_key=secret,
        path_style=True,
        attempts=attempts,
        connect_timeout_s=PATIENCE_S,
        read_timeout_s=PATIENCE_S,
        ca_bundle=ca_bundle,
    )
    return S3ObjectStore(partial(make_client, "s3", place), attempts=attempts)


@pytest.fixture(autouse=True)
def bucket(rclone_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (rclone_folder / "calls").mkdir(exist_ok=True)
    monkeypatch.setattr(s3_store, "FIRST_PAUSE_S", 0.01)


@pytest.fixture
def store(rclone_url: str) -> S3ObjectStore:
    return store_at(rclone_url)


@pytest.fixture
def line(rclone_url: str) -> Iterator[Relay]:
    with relay(rclone_url) as found:
        yield found


def test_what_is_written_is_a_file_there_and_is_read_again(store: S3ObjectStore, rclone_folder: Path) -> None:
    store.write(ONE, b"some speech")
    assert (rclone_folder / "calls" / "2024" / "one.wav").read_bytes() == b"some speech"
    assert store.read(ONE, 100) == b"some speech"
    assert store.size(ONE) == 11


@pytest.mark.parametrize("name", ["a b+c%20#?.wav", "grün/日本.wav", "quote'\"&<>.wav"])
def test_any_name_comes_through(store: S3ObjectStore, name: str) -> None:
    uri = ObjectUri("calls", name)
    store.write(uri, name.encode())
    assert store.read(uri, 1000) == name.encode()
    assert name in [item.uri.key for item in store.list("calls")]


def test_an_empty_object_is_one(store: S3ObjectStore) -> None:
    uri = ObjectUri("calls", "empty")
    store.write(uri, iter(()))
    assert store.size(uri) == 0
    assert store.read(uri, 0) == b""


def test_a_list_has_the_objects_below_a_prefix_in_order(store: S3ObjectStore) -> None:
    for name in ("list/b", "list/a/2", "list/a/1", "other"):
        store.write(ObjectUri("calls", name), b"x" * len(name))
    found = list(store.list("calls", "list/"))
    assert [(item.uri.key, item.size) for item in found] == [("list/a/1", 8), ("list/a/2", 8), ("list/b", 6)]
    assert "calls" in store.buckets()


def test_what_is_deleted_is_gone_and_may_be_deleted_again(store: S3ObjectStore) -> None:
    uri = ObjectUri("calls", "short-lived")
    store.write(uri, b"x")
    store.delete(uri)
    store.delete(uri)
    with pytest.raises(ObjectNotFound):
        store.size(uri)


def test_an_object_over_the_limit_is_refused_unread(line: Relay) -> None:
    store = store_at(line.url)
    store.write(ONE, os.urandom(100_000))
    with pytest.raises(ObjectTooLarge, match="100000 bytes, at most 99999"):
        store.read(ONE, 99_999)
    assert len(store.read(ONE, 100_000)) == 100_000


@pytest.mark.parametrize("read", [lambda s, u: s.size(u), lambda s, u: s.read(u, 10), lambda s, u: s.open(u)])
def test_what_is_missing_is_404_in_a_result_file(store: S3ObjectStore, read) -> None:
    with pytest.raises(ObjectNotFound) as missing:
        read(store, ObjectUri("calls", "absent"))
    with pytest.raises(BucketNotFound) as nowhere:
        read(store, ObjectUri("no-such-bucket", "absent"))
    assert code_of(missing.value) == code_of(nowhere.value) == 404


def test_a_wrong_secret_is_403_in_a_result_file(rclone_url: str, store: S3ObjectStore) -> None:
    store.write(ONE, b"x")
    with pytest.raises(ObjectDenied) as denied:
        store_at(rclone_url, secret="wrong").read(ONE, 10)
    assert code_of(denied.value) == 403
    assert "wrong" not in str(denied.value)


def test_a_name_without_a_key_is_no_object(store: S3ObjectStore) -> None:
    with pytest.raises(InvalidObjectName):
        store.read(ObjectUri("calls", ""), 1)


def test_a_long_object_is_written_in_parts_and_streamed_in_pieces(line: Relay) -> None:
    store, uri = store_at(line.url), ObjectUri("calls", "long")
    data = os.urandom(2 * PART_BYTES + 12_345)
    store.write(uri, (data[at : at + 300_000] for at in range(0, len(data), 300_000)))
    assert len(line.find("PUT", "partNumber=")) == 3
    with store.open(uri) as stream:
        assert stream.size == len(data)
        assert b"".join(iter(lambda: stream.read(70_000), b"")) == data


def test_a_write_that_fails_on_the_way_leaves_what_was_there(store: S3ObjectStore) -> None:
    uri = ObjectUri("calls", "kept")
    store.write(uri, b"the old one")

    def broken() -> Iterator[bytes]:
        yield b"x" * (2 * PART_BYTES)
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        store.write(uri, broken())
    assert store.read(uri, 100) == b"the old one"
    assert not [item for item in store.list("calls", "kept") if item.uri != uri]


def test_asking_whether_a_file_could_be_written_leaves_none(store: S3ObjectStore) -> None:
    uri = ObjectUri("calls", "results/perhaps.out")
    store.check_writable(uri, None)
    with pytest.raises(ObjectNotFound):
        store.size(uri)
    with pytest.raises(ObjectError) as nowhere:
        store.check_writable(ObjectUri("no-such-bucket", "x"), None)
    assert code_of(nowhere.value) == 404


def test_a_server_that_stumbles_is_asked_again(line: Relay) -> None:
    store = store_at(line.url)
    store.write(ONE, b"x")
    line.refuse += [503, 500]
    assert store.read(ONE, 10) == b"x"
    assert len(line.find("GET")) == 3


def test_server_that_stays_down_is_500_in_a_result_file(line: Relay) -> None:
    store = store_at(line.url, attempts=2)
    line.refuse += [503] * 10
    with pytest.raises(ObjectError) as down:
        store.read(ONE, 10)
    assert (code_of(down.value), len(line.find("GET"))) == (500, 2)


@pytest.mark.slow
def test_a_client_that_keeps_failing_runs_out_of_retries(line: Relay) -> None:
    store = store_at(line.url, attempts=10)
    line.refuse += [500] * 10_000
    asked = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("botocore.endpoint.time.sleep", lambda _: None)
        for _ in range(15):
            before = len(line.seen)
            with pytest.raises(ObjectError):
                store.size(ONE)
            asked.append(len(line.seen) - before)
    assert asked[0] == 10, "a first failure may be tried ten times"
    assert asked[-1] == 1, "after many, there is no second try"


def test_a_stream_goes_on_where_the_connection_broke(line: Relay) -> None:
    store, uri = store_at(line.url), ObjectUri("calls", "broken")
    data = os.urandom(400_000)
    store.write(uri, data)
    line.cut += [100_000, 150_000]
    assert store.read(uri, 1_000_000) == data
    ranges = [one.headers.get("range") for one in line.find("GET")]
    assert ranges[0] is None and len(ranges) == 3
    assert all(found is not None and found.endswith("-") for found in ranges[1:])


def test_a_stream_that_breaks_without_end_is_given_up(line: Relay) -> None:
    store, uri = store_at(line.url, attempts=3), ObjectUri("calls", "broken")
    store.write(uri, os.urandom(200_000))
    line.cut += [0] * 10
    with pytest.raises(ObjectError, match="broke 3 times in a row"):
        store.read(uri, 1_000_000)


def test_nobody_at_the_endpoint_is_500_in_a_result_file() -> None:
    with pytest.raises(ObjectError) as nobody:
        store_at("http://127.0.0.1:9", attempts=1).read(ONE, 10)
    assert code_of(nobody.value) == 500


def test_an_endpoint_with_a_certificate_of_its_own_needs_its_authority(tmp_path: Path) -> None:
    (tmp_path / "calls").mkdir()
    bundle = certificate(tmp_path / "server.pem")
    with rclone(tmp_path, certificate=bundle) as url:
        store_at(url, ca_bundle=str(bundle)).write(ONE, b"x")
        with pytest.raises(ObjectError, match="SSLError"):
            store_at(url, attempts=1).read(ONE, 10)
        with pytest.raises(ObjectError):
            store_at(url, attempts=1, ca_bundle=str(tmp_path / "none.pem")).read(ONE, 10)
