"""Objects in a folder: what is put is found, listed and removed; what fails leaves no trace."""

import errno
import os
import resource
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sonant.errors import (
    BucketNotFound,
    InvalidObjectName,
    KeyNotFound,
    KeyUnusable,
    ObjectDenied,
    ObjectError,
    ObjectNameConflict,
    ObjectNotFound,
    ObjectTooLarge,
    SealBroken,
    SetupError,
    StorageFull,
)
from sonant.store.local_keys import LocalKeyStore
from sonant.store.local_objects import LocalObjectStore
from sonant.store.local_tree import faults
from sonant.store.objects import ObjectUri
from sonant.store.sealing import MAGIC

MIB = 1024 * 1024


def uri(key, bucket="calls"):
    return ObjectUri(bucket, key)


@pytest.fixture
def keys(tmp_path):
    keys = LocalKeyStore(
        tmp_path / "keys", region="us-east-1", account="000000000000", clock=lambda: datetime.now(UTC)
    )
    keys.create(alias="alias/sonant")
    return keys


@pytest.fixture
def store(tmp_path, keys):
    store = LocalObjectStore(tmp_path / "buckets", keys)
    store.create_bucket("calls")
    return store


@pytest.fixture
def bucket(tmp_path, store):
    return tmp_path / "buckets" / "calls"


def tree(folder):
    """Every path below a folder, with the content of files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in Path(folder).rglob("*")
    }


def in_child(action):
    """Run `action` in a process of its own and return what it says."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = str(action())
        except BaseException as fault:
            text = f"{type(fault).__name__}: {fault}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


# --- reading and writing


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


def test_an_object_being_read_stays_whole_when_it_is_replaced_or_deleted(store):
    store.write(uri("one"), b"old" * 100_000)
    with store.open(uri("one")) as reader:
        start = reader.read(10)
        store.write(uri("one"), b"new")
        store.delete(uri("one"))
        assert start + reader.read() == b"old" * 100_000


# --- names that collide


def test_an_object_and_objects_below_it_conflict_in_a_clear_sentence(store):
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


def test_a_listing_of_the_deepest_key_takes_little_time(store):
    for key in ("/" * 1024, "a/" * 512, "x" * 1024):
        start = time.perf_counter()
        store.write(uri(key), b"deep")
        assert [info.uri.key for info in store.list("calls")] == [key]
        assert store.read(uri(key), 4) == b"deep"
        store.delete(uri(key))
        assert time.perf_counter() - start < 20


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
    st.text(st.characters(exclude_categories=("Cs",)), max_size=12),
)
KEYS = st.lists(SEGMENTS, min_size=1, max_size=5).map("/".join).filter(lambda k: 0 < len(k.encode()) <= 1024)


@given(st.lists(KEYS, min_size=1, max_size=5, unique=True), KEYS)
@example(["../../outside", "/etc/passwd", "..", "a/../../b"], "..")
@settings(max_examples=80, deadline=None)
def test_every_legal_key_round_trips_and_none_leaves_its_bucket(wanted, prefix):
    with tempfile.TemporaryDirectory() as base:
        store = LocalObjectStore(Path(base, "outer", "buckets"), keys=None)
        for name in ("calls", "other"):
            store.create_bucket(name)
        Path(base, "outer", "outside").write_bytes(b"untouched")
        before = tree(base)
        held = {}
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
    for broken in (whole[:-1], whole[:70_000], whole[:50], whole + b"\0", whole[:-9] + b"x" + whole[-8:]):
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
    with pytest.raises(ObjectDenied, match="may not begin as a sealed object"):
        store.write(uri("one"), [MAGIC[:7], MAGIC[7:], b"rest"])
    store.write(uri("one"), MAGIC + b"rest", "alias/sonant")
    assert store.read(uri("one"), 100) == MAGIC + b"rest"


# --- all or nothing


@pytest.mark.parametrize("kms_key", [None, "alias/sonant"], ids=["plain", "sealed"])
@pytest.mark.parametrize("key", ["one", "new/folder/two"])
def test_a_source_that_fails_leaves_the_old_object_and_nothing_else(store, bucket, key, kms_key):
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
    assert said.startswith("StorageFull: s3://calls/one: no room")
    assert tree(bucket) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_file_the_service_may_not_read_is_denied_by_name():
    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o755)
        store = LocalObjectStore(Path(base, "buckets"), keys=None)
        store.create_bucket("calls")
        store.write(uri("one"), b"")
        for folder in ("buckets", "buckets/calls"):
            os.chmod(Path(base, folder), 0o755)

        def as_nobody(use):
            os.setuid(65534)
            return use()

        for use in (
            lambda: store.read(uri("one"), 1),
            lambda: store.size(uri("one")),
            lambda: list(store.list("calls")),
            lambda: store.write(uri("two"), b""),
            lambda: store.delete(uri("one")),
        ):
            said = in_child(lambda use=use: as_nobody(use))
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
        (errno.EMFILE, ObjectError),
    ],
    ids=lambda value: errno.errorcode.get(value, "") if isinstance(value, int) else value.__name__,
)
def test_faults_of_the_system_become_errors_that_name_the_object(number, kind):
    with pytest.raises(kind, match="s3://calls/one: ") as fault, faults("s3://calls/one"):
        raise OSError(number, os.strerror(number), "/srv/data/buckets/calls/one")
    assert type(fault.value) is kind
    assert "/srv/data" not in str(fault.value)


def test_a_root_that_cannot_be_made_is_a_setup_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="object folder"):
        LocalObjectStore(tmp_path / "file" / "buckets", keys=None)


def test_writers_and_deleters_at_once_do_not_trip_over_each_other(store, bucket):
    faults_seen = []

    def work(number):
        try:
            for _ in range(40):
                store.write(uri(f"a/b/c/{number}"), b"x")
                store.delete(uri(f"a/b/c/{number}"))
        except Exception as fault:
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
        store.sweep()
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


def test_sweeping_removes_what_broken_writes_left_a_day_ago(store, bucket):
    store.write(uri("a/kept"), b"x")
    (bucket / "b" / "c").mkdir(parents=True)
    day_ago = time.time() - 25 * 3600
    for path, seconds in [
        ("b/c/.s3~tmp-00", day_ago),
        ("a/.s3~tmp-11", day_ago),
        ("a/.s3~tmp-22", time.time()),
    ]:
        (bucket / path).write_bytes(b"half")
        os.utime(bucket / path, (seconds, seconds))
    os.utime(bucket / "a" / "kept", (day_ago, day_ago))
    assert store.sweep() == 2
    assert tree(bucket) == {"a": None, "a/kept": b"x", "a/.s3~tmp-22": b"half"}
