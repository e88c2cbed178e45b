"""Objects in a folder: writing, reading, listing and deleting."""

import os
from datetime import UTC, datetime, timedelta

import pytest
from folder_objects import tree, uri

from sonant.errors import BucketNotFound, InvalidObjectName, ObjectNotFound, ObjectTooLarge

MIB = 1024 * 1024


@pytest.mark.parametrize("kms_key", [None, "alias/sonant"], ids=["plain", "sealed"])
@pytest.mark.parametrize("size", [0, 1, 15, 16, 65_536, 65_537, 1_000_000])
def test_what_is_written_is_read(store, size, kms_key):
    data = os.urandom(size)
    store.write(uri("a/one.wav"), data, kms_key)
    assert store.read(uri("a/one.wav"), size) == data
    assert store.size(uri("a/one.wav")) == size
    with store.open(uri("a/one.wav")) as reader:
        assert reader.size == size
        assert reader.read() == data
        assert reader.read() == b""
    [info] = store.list("calls")
    assert (info.uri, info.size, info.sealed) == (uri("a/one.wav"), size, kms_key is not None)
    assert abs(info.modified_at - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("kms_key", [None, "alias/sonant"], ids=["plain", "sealed"])
def test_a_stream_is_read_in_pieces_of_any_size(store, kms_key):
    data = os.urandom(300_000)
    store.write(uri("one"), (data[at : at + 777] for at in range(0, len(data), 777)), kms_key)
    with store.open(uri("one")) as reader:
        pieces = [reader.read(size) for size in (0, 1, 100_000, 65_536)]
        assert [len(piece) for piece in pieces] == [0, 1, 100_000, 65_536]
        assert b"".join(pieces) + reader.read(10**6) == data
        assert reader.read(1) == b""


@pytest.mark.parametrize(
    "name",
    ["100%.wav", "a b+c#?.wav", "%20", "ü日本😀.wav", "deep/er/.hidden", "back\\slash", "quote\"'`$(x)"],
)
def test_a_file_that_a_user_drops_is_found_under_its_own_name(store, bucket, name):
    (bucket / name).parent.mkdir(parents=True, exist_ok=True)
    (bucket / name).write_bytes(b"voice")
    assert store.read(uri(name), 5) == b"voice"
    assert [info.uri.key for info in store.list("calls")] == [name]


def test_an_object_is_a_file_that_users_find_under_its_key(store, bucket):
    store.write(uri("2024/one.wav"), b"voice")
    assert (bucket / "2024" / "one.wav").read_bytes() == b"voice"


def test_writing_again_replaces_the_whole(store):
    store.write(uri("one"), b"long content", "alias/sonant")
    store.write(uri("one"), b"short")
    assert store.read(uri("one"), 100) == b"short"


def test_a_larger_object_than_allowed_is_refused_before_it_is_read(store):
    for kms_key in (None, "alias/sonant"):
        store.write(uri("one"), bytes(1001), kms_key)
        assert len(store.read(uri("one"), 1001)) == 1001
        with pytest.raises(ObjectTooLarge, match=r"s3://calls/one: 1001 bytes, at most 1000"):
            store.read(uri("one"), 1000)


def test_a_huge_sparse_file_is_refused_at_once(store, bucket):
    with (bucket / "one").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(ObjectTooLarge):
        store.read(uri("one"), MIB)


def test_files_and_folders_are_for_the_owner_alone(store, bucket):
    old = os.umask(0)
    try:
        store.write(uri("a/b/one"), b"")
    finally:
        os.umask(old)
    modes = [
        path.stat().st_mode & 0o777 for path in (bucket, bucket / "a", bucket / "a/b", bucket / "a/b/one")
    ]
    assert modes == [0o700, 0o700, 0o700, 0o600]


@pytest.mark.parametrize(("max_bytes", "added"), [(2000, 500), (2000, 1000), (2000, 1001), (1000, 1)])
def test_file_that_grows_during_the_read_is_read_whole_or_refused(
    store, bucket, monkeypatch, max_bytes, added
):
    (bucket / "one").write_bytes(bytes(1000))
    real = os.pread

    def pread_after_growth(*arguments):
        with (bucket / "one").open("ab") as file:
            file.write(bytes(added))
        return real(*arguments)

    monkeypatch.setattr(os, "pread", pread_after_growth)
    if 1000 + added <= max_bytes:
        assert store.read(uri("one"), max_bytes) == bytes(1000 + added)
    else:
        with pytest.raises(ObjectTooLarge, match="grew"):
            store.read(uri("one"), max_bytes)


def test_missing_things_have_their_own_errors(store):
    for use in (store.size, store.open, lambda u: store.read(u, 10)):
        with pytest.raises(ObjectNotFound, match="s3://calls/none"):
            use(uri("none"))
        with pytest.raises(ObjectNotFound):
            use(uri("none/below"))
        with pytest.raises(BucketNotFound, match="s3://nobucket"):
            use(uri("one", bucket="nobucket"))
    for use in (store.delete, lambda u: store.write(u, b"")):
        with pytest.raises(BucketNotFound):
            use(uri("one", bucket="nobucket"))
    with pytest.raises(BucketNotFound):
        store.list("nobucket")
    assert store.buckets() == ["calls"]


def test_a_folder_is_not_an_object(store):
    store.write(uri("a/b"), b"")
    with pytest.raises(ObjectNotFound):
        store.read(uri("a"), 10)
    store.delete(uri("a"))
    assert store.read(uri("a/b"), 10) == b""
    with pytest.raises(ObjectNotFound):
        store.read(uri("a/b/c"), 10)


def test_an_object_is_needed_where_only_a_bucket_is_named(store):
    for use in (
        store.size,
        store.open,
        store.delete,
        lambda u: store.read(u, 1),
        lambda u: store.write(u, b""),
    ):
        with pytest.raises(InvalidObjectName, match="an object is needed"):
            use(uri(""))


def test_deleting_takes_the_object_and_the_folders_it_leaves_empty(store, bucket):
    for key in ("a/b/c", "a/d"):
        store.write(uri(key), b"")
    store.delete(uri("a/b/c"))
    assert tree(bucket) == {"a": None, "a/d": b""}
    store.delete(uri("a/d"))
    assert tree(bucket) == {}
    store.delete(uri("a/d"))
    store.write(uri("a"), b"now an object")


def test_open_object_stays_readable_when_replaced_or_deleted(store):
    store.write(uri("one"), b"old" * 100_000)
    with store.open(uri("one")) as reader:
        start = reader.read(10)
        store.write(uri("one"), b"new")
        store.delete(uri("one"))
        assert start + reader.read() == b"old" * 100_000
