"""A process without file descriptors waits, and reports no error of what it reads."""

import resource
from contextlib import contextmanager

import pytest

from sonant.assembly import worker_process
from sonant.errors import KeysUnreachable, ObjectsUnavailable
from sonant.storage.keys.store import KeyStore
from sonant.storage.keys.stores.local import LocalKeyStore
from sonant.storage.objects.store import ObjectUri
from sonant.storage.objects.stores.local import LocalObjectStore
from sonant.storage.times import now

FILE = ObjectUri.parse("s3://calls/a.wav")


@contextmanager
def no_files_left():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def keys(tmp_path) -> KeyStore:
    return LocalKeyStore(tmp_path / "keys", region="us-east-1", account="000000000000", clock=now)


@pytest.fixture
def objects(tmp_path, keys):
    made = LocalObjectStore(tmp_path / "buckets", keys)
    made.create_bucket("calls")
    made.write(FILE, b"RIFF")
    return made


@pytest.mark.parametrize(
    "use",
    [
        lambda objects: objects.size(FILE),
        lambda objects: objects.read(FILE, 100),
        lambda objects: objects.open(FILE),
        lambda objects: objects.write(FILE, b"other"),
        lambda objects: list(objects.list("calls")),
    ],
    ids=["size", "read", "open", "write", "list"],
)
def test_objects_cannot_be_used_for_now(objects, use):
    with no_files_left(), pytest.raises(ObjectsUnavailable, match="Too many open files"):
        use(objects)
    use(objects)


def test_keys_cannot_be_used_for_now(keys):
    key = keys.create("of a domain")
    with no_files_left(), pytest.raises(KeysUnreachable, match="Too many open files"):
        keys.create("another")
    assert keys.describe(key.arn).state == "Enabled"


def test_a_recording_is_read_as_soon_as_there_are_files():
    turns = iter([ObjectsUnavailable("none left")] * 3)

    def read():
        for fault in turns:
            raise fault
        return b"RIFF"

    assert worker_process.read_when_possible(read, time_limit_s=30.0) == b"RIFF"
