"""Errors of objects in a folder: sealed, damaged, interrupted, forbidden."""

import errno
import os
import resource
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from folder_objects import NO_KEYS, tree, uri
from tampering import altered

from sonant.errors import (
    InvalidObjectName,
    KeyNotFound,
    KeyUnusable,
    ObjectDenied,
    ObjectError,
    ObjectNotFound,
    ObjectsUnavailable,
    SealBroken,
    SetupError,
    StorageFull,
)
from sonant.storage.crypto.sealing import MAGIC
from sonant.storage.objects.local_tree import object_errors
from sonant.storage.objects.stores.local import LocalObjectStore

MIB = 1024 * 1024


def in_child(action):
    """Run `action` in a process of its own and return what it says."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = str(action())
        except Exception as fault:  # noqa: BLE001 - whatever it is, it is what the child says
            text = f"{type(fault).__name__}: {fault}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


# --- sealed objects


def test_a_sealed_object_is_not_readable_on_disk(store, bucket):
    store.write(uri("out.json"), b"customer 42" * 1000, "alias/sonant")
    assert b"customer" not in (bucket / "out.json").read_bytes()


def test_a_sealed_object_moved_elsewhere_does_not_open(store, bucket):
    store.write(uri("out.json"), b"customer 42", "alias/sonant")
    (bucket / "out.json").rename(bucket / "other.json")
    with pytest.raises(SealBroken, match=r"s3://calls/other\.json"):
        store.read(uri("other.json"), 100)
    with pytest.raises(SealBroken):
        store.open(uri("other.json"))
    (bucket / "other.json").rename(bucket / "out.json")
    assert store.read(uri("out.json"), 100) == b"customer 42"


def test_a_sealed_object_altered_or_cut_short_does_not_open(store, bucket):
    store.write(uri("out"), bytes(200_000), "alias/sonant")
    whole = (bucket / "out").read_bytes()
    for broken in (whole[:-1], whole[:70_000], whole[:50], whole + b"\0", altered(whole, -9)):
        (bucket / "out").write_bytes(broken)
        with pytest.raises(SealBroken, match="s3://calls/out"):
            store.read(uri("out"), MIB)
        with pytest.raises(SealBroken, match="s3://calls/out"), store.open(uri("out")) as reader:
            reader.read()
        assert [info.sealed for info in store.list("calls")] == [True]


def test_the_state_of_the_key_decides_at_each_use(store, keys):
    store.write(uri("out"), b"customer 42", "alias/sonant")
    keys.disable("alias/sonant")
    for use in (
        lambda: store.read(uri("out"), 100),
        lambda: store.open(uri("out")),
        lambda: store.write(uri("new"), b"", "alias/sonant"),
    ):
        with pytest.raises(KeyUnusable):
            use()
    with pytest.raises(KeyNotFound):
        store.write(uri("new"), b"", "alias/none")
    assert [(info.uri.key, info.size) for info in store.list("calls")] == [("out", 11)]


def test_plain_content_that_would_be_taken_for_sealed_is_refused(store):
    with pytest.raises(ObjectDenied, match="must not start like a sealed object"):
        store.write(uri("one"), [MAGIC[:7], MAGIC[7:], b"rest"])
    store.write(uri("one"), MAGIC + b"rest", "alias/sonant")
    assert store.read(uri("one"), 100) == MAGIC + b"rest"


# --- all or nothing


@pytest.mark.parametrize("kms_key", [None, "alias/sonant"], ids=["plain", "sealed"])
@pytest.mark.parametrize("key", ["one", "new/folder/two"])
def test_failing_iterator_leaves_only_the_old_object(store, bucket, key, kms_key):
    store.write(uri("one"), b"old")
    before = tree(bucket)

    def failing():
        yield bytes(MIB)
        raise OSError(errno.ECONNRESET, "the line went dead")

    with pytest.raises(OSError, match="the line went dead"):
        store.write(uri(key), failing(), kms_key)
    assert tree(bucket) == before


def test_while_an_object_is_written_readers_see_the_old_one(store, bucket):
    store.write(uri("one"), b"old")

    def watched():
        yield b"new"
        assert store.read(uri("one"), 10) == b"old"
        assert [info.size for info in store.list("calls")] == [3]
        yield b"er"

    store.write(uri("one"), watched())
    assert store.read(uri("one"), 10) == b"newer"


@pytest.mark.parametrize("kms_key", [None, "alias/sonant"], ids=["plain", "sealed"])
def test_a_full_disk_leaves_the_old_object_and_nothing_else(store, bucket, kms_key):
    store.write(uri("one"), b"old")
    before = tree(bucket)

    def write_with_little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        store.write(uri("one"), (bytes(10_000) for _ in range(100)), kms_key)

    said = in_child(write_with_little_room)
    assert said.startswith("StorageFull: s3://calls/one: no space")
    assert tree(bucket) == before


def test_a_file_the_service_may_not_read_is_denied_by_name():
    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o755)
        store = LocalObjectStore(Path(base, "buckets"), keys=NO_KEYS)
        store.create_bucket("calls")
        store.write(uri("one"), b"")
        bucket = Path(base, "buckets/calls")
        for folder in (bucket.parent, bucket):
            os.chmod(folder, 0o755)

        def without_rights(use):
            if os.geteuid() == 0:  # whom no mode stops
                os.setuid(65534)
            else:
                os.chmod(bucket / "one", 0)
                os.chmod(bucket, 0o500)
            return use()

        for use in (
            lambda: store.read(uri("one"), 1),
            lambda: store.size(uri("one")),
            lambda: list(store.list("calls")),
            lambda: store.write(uri("two"), b""),
            lambda: store.delete(uri("one")),
        ):
            said = in_child(lambda use=use: without_rights(use))
            assert said.startswith("ObjectDenied: s3://calls/"), said


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, ObjectNotFound),
        (errno.ENOTDIR, ObjectNotFound),
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EFBIG, StorageFull),
        (errno.EACCES, ObjectDenied),
        (errno.EROFS, ObjectDenied),
        (errno.ELOOP, ObjectDenied),
        (errno.ENAMETOOLONG, InvalidObjectName),
        (errno.EIO, ObjectError),
    ],
    ids=lambda value: errno.errorcode.get(value, "") if isinstance(value, int) else value.__name__,
)
def test_faults_of_the_system_become_errors_that_name_the_object(number, kind):
    with pytest.raises(kind, match="s3://calls/one: ") as fault, object_errors("s3://calls/one"):
        raise OSError(number, os.strerror(number), "/srv/data/buckets/calls/one")
    assert type(fault.value) is kind
    assert "/srv/data" not in str(fault.value)


def test_a_root_that_cannot_be_made_is_a_setup_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="object folder"):
        LocalObjectStore(tmp_path / "file" / "buckets", keys=NO_KEYS).make()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_what_the_machine_lacks_is_no_fault_of_the_object(number):
    with pytest.raises(ObjectsUnavailable, match="objects cannot be used: "), object_errors("s3://calls/one"):
        raise OSError(number, os.strerror(number), "/srv/data/buckets/calls/one")


def test_writers_and_deleters_at_once_do_not_trip_over_each_other(store, bucket):
    faults_seen = []

    def work(number):
        try:
            for _ in range(40):
                store.write(uri(f"a/b/c/{number}"), b"x")
                store.delete(uri(f"a/b/c/{number}"))
        except Exception as fault:  # noqa: BLE001 - kept for the assertion
            faults_seen.append(fault)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults_seen == []
    assert tree(bucket) == {}


def test_no_descriptor_is_left_open(store):
    def everything():
        store.write(uri("a/one"), b"x", "alias/sonant")
        store.read(uri("a/one"), 10)
        store.size(uri("a/one"))
        with store.open(uri("a/one")) as reader:
            reader.read()
        list(store.list("calls"))
        next(store.list("calls"))
        store.remove_stale_files()
        for use in (lambda: store.read(uri("none"), 1), lambda: store.write(uri("a/one/b"), b"")):
            with pytest.raises(ObjectError):
                use()
        store.delete(uri("a/one"))

    everything()
    before = len(os.listdir("/dev/fd"))
    for _ in range(20):
        everything()
    assert len(os.listdir("/dev/fd")) == before


# --- leavings


def test_stale_files_of_interrupted_writes_are_removed_after_a_day(store, bucket):
    store.write(uri("a/kept"), b"x")
    (bucket / "b" / "c").mkdir(parents=True)
    moment = datetime.now(UTC).timestamp()
    day_ago = moment - 25 * 3600
    for path, seconds in [
        ("b/c/.s3~tmp-00", day_ago),
        ("a/.s3~tmp-11", day_ago),
        ("a/.s3~tmp-22", moment),
    ]:
        (bucket / path).write_bytes(b"half")
        os.utime(bucket / path, (seconds, seconds))
    os.utime(bucket / "a" / "kept", (day_ago, day_ago))
    assert store.remove_stale_files() == 2
    assert tree(bucket) == {"a": None, "a/kept": b"x", "a/.s3~tmp-22": b"half"}
