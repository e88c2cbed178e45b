"""All kinds of keys in one folder: listed in order, inside the bucket, without collisions."""

import os
import resource
import tempfile
from pathlib import Path

import pytest
from counting import counted_calls
from folder_objects import NO_KEYS, tree, uri
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sonant.errors import InvalidObjectName, ObjectDenied, ObjectNameConflict
from sonant.storage.objects.stores.local import LocalObjectStore

#: In memory where there is such a place: these tests write thousands of files, safely to the disk.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


# --- names that collide


def test_object_and_objects_below_it_conflict_with_a_clear_message(store):
    store.write(uri("a"), b"1")
    with pytest.raises(ObjectNameConflict, match=r"s3://calls/a/b/c: a part of this key is itself an object"):
        store.write(uri("a/b/c"), b"2")
    store.write(uri("x/y"), b"3")
    with pytest.raises(ObjectNameConflict, match="s3://calls/x: there are objects below this key"):
        store.write(uri("x"), b"4")
    assert {info.uri.key: info.size for info in store.list("calls")} == {"a": 1, "x/y": 1}


def test_an_empty_folder_is_no_conflict(store, bucket):
    (bucket / "a").mkdir()
    store.write(uri("a"), b"1")
    assert store.read(uri("a"), 1) == b"1"


# --- listing


def test_a_listing_is_sorted_by_the_bytes_of_the_keys(store):
    names = [
        "b",
        "a/z",
        "a-",
        "a0",
        "a/b/c",
        "a/b-",
        "ä",
        "Z",
        "😀",
        "\uffff",
        "//",
        "a//",
        "\n",
        "~",
        ".s3~x",
    ]
    names += ["x" * 150 + "/1", "x" * 250, "x" * 100 + "a" * 101 + "/2", "x" * 320 + "//3", "x" * 100]
    for key in names:
        store.write(uri(key), b"")
    assert [info.uri.key for info in store.list("calls")] == sorted(names, key=str.encode)


@pytest.mark.parametrize(
    "prefix", ["", "a", "a/", "a/b", "a/b/", "a/b/c", "a//", "x" * 99, "x" * 205, "zz", "\ud800"]
)
def test_a_listing_holds_the_keys_that_begin_with_the_prefix(store, prefix):
    names = ["a/b/c", "a/b/d", "a/bc", "a//x", "ab", "x" * 210, "x" * 99 + "/y", "z"]
    for key in names:
        store.write(uri(key), b"")
    found = [info.uri.key for info in store.list("calls", prefix)]
    assert found == sorted(key for key in names if key.startswith(prefix))


def test_a_listing_passes_over_what_is_no_object(store, bucket, tmp_path):
    store.write(uri("real"), b"")
    (bucket / "empty").mkdir()
    (bucket / ".s3~61").write_bytes(b"")
    (bucket / ".s3~tmp-0011").write_bytes(b"")
    (bucket / ("x" * 230)).write_bytes(b"")
    (bucket / os.fsdecode(b"\xff\xfe")).write_bytes(b"")
    (bucket / "line\nbreak").write_bytes(b"")
    (bucket / "link").symlink_to(tmp_path)
    (bucket / "dead").symlink_to("nowhere")
    os.mkfifo(bucket / "pipe")
    assert [info.uri.key for info in store.list("calls")] == ["real"]


def test_objects_that_vanish_while_they_are_listed_are_passed_over(store):
    for key in ("a", "b/c", "d/e/f", "g"):
        store.write(uri(key), b"")
    listed = store.list("calls")
    assert next(listed).uri.key == "a"
    store.delete(uri("b/c"))
    store.delete(uri("d/e/f"))
    assert [info.uri.key for info in listed] == ["g"]


@pytest.mark.parametrize(
    "key", ["/" * 1024, "a/" * 512, "x" * 1024], ids=["slashes", "folders", "one segment"]
)
def test_deepest_key_needs_few_descriptors_and_calls(key):
    with tempfile.TemporaryDirectory(dir=MEMORY) as base:
        store = LocalObjectStore(Path(base), keys=NO_KEYS)
        store.create_bucket("calls")
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, limits[1]), limits[1]))
        try:
            with counted_calls() as calls:
                store.write(uri(key), b"deep")
                assert [info.uri.key for info in store.list("calls")] == [key]
                assert store.read(uri(key), 4) == b"deep"
                store.delete(uri(key))
            assert calls["posix.open"] < 32 * 1024, "for each folder some, not all those above it"
            assert calls.total() < 250_000
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert tree(base) == {"calls": None}


def test_buckets_are_the_folders_with_a_bucket_name(store, tmp_path):
    store.create_bucket("archive.2024")
    store.create_bucket("archive.2024")
    (tmp_path / "buckets" / "Not_A_Bucket").mkdir()
    (tmp_path / "buckets" / "file").write_text("")
    (tmp_path / "buckets" / "link").symlink_to(tmp_path)
    assert store.buckets() == ["archive.2024", "calls"]
    with pytest.raises(ObjectNameConflict):
        store.create_bucket("file")
    with pytest.raises(ObjectDenied):
        store.create_bucket("link")
    with pytest.raises(InvalidObjectName):
        store.create_bucket("../other")


# --- any key at all

SEGMENTS = st.one_of(
    st.sampled_from(
        ["", ".", "..", "a", "b", "...", "%2e%2e", ".s3~", ".s3~+", ".s3~61", ".s3~tmp-1", "é" * 120]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)
KEYS = st.lists(SEGMENTS, min_size=1, max_size=5).map("/".join).filter(lambda k: 0 < len(k.encode()) <= 1024)


@given(st.lists(KEYS, min_size=1, max_size=5, unique=True), KEYS)
@example(["../../outside", "/etc/passwd", "..", "a/../../b"], "..")
@settings(max_examples=200)
def test_every_legal_key_round_trips_and_none_leaves_its_bucket(wanted, prefix):
    with tempfile.TemporaryDirectory(dir=MEMORY) as base:
        store = LocalObjectStore(Path(base, "outer", "buckets"), keys=NO_KEYS)
        for name in ("calls", "other"):
            store.create_bucket(name)
        Path(base, "outer", "outside").write_bytes(b"untouched")
        before = tree(base)
        held: dict[str, bytes] = {}
        for number, key in enumerate(wanted):
            try:
                store.write(uri(key), b"%d" % number)
            except ObjectNameConflict:
                below = [k for k in held if k.startswith(key + "/") or key.startswith(k + "/")]
                assert below, "a conflict needs a key below the other"
                continue
            held[key] = b"%d" % number

        assert {info.uri.key: store.read(info.uri, 9) for info in store.list("calls")} == held
        assert [i.uri.key for i in store.list("calls")] == sorted(held, key=str.encode)
        assert {i.uri.key for i in store.list("calls", prefix)} == {k for k in held if k.startswith(prefix)}
        calls = os.path.join("outer", "buckets", "calls") + os.sep
        assert {p: c for p, c in tree(base).items() if not p.startswith(calls)} == before
        for key in held:
            assert store.read(uri(key), 9) == held[key]
            store.delete(uri(key))
        assert tree(base) == before
