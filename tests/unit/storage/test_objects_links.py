"""Objects in a folder: no symbolic link is followed, and only regular files are read."""

import os
import socket
from pathlib import Path

import pytest
from folder_objects import NO_KEYS
from waiting import PATIENCE_S

from sonant.errors import ObjectDenied
from sonant.storage.objects.store import ObjectUri
from sonant.storage.objects.stores.local import LocalObjectStore


@pytest.fixture
def outside(tmp_path):
    """A folder the service must not reach."""
    folder = tmp_path / "outside"
    (folder / "below").mkdir(parents=True)
    (folder / "secret").write_bytes(b"secret")
    (folder / "below" / "secret").write_bytes(b"secret")
    return folder


def everything_refuses(store, uri, saying):
    uses = [
        lambda: store.read(uri, 100),
        lambda: store.size(uri),
        lambda: store.open(uri),
        lambda: store.write(uri, b"overwritten"),
        lambda: store.delete(uri),
    ]
    for use in uses:
        with pytest.raises(ObjectDenied, match=saying) as fault:
            use()
        assert str(uri) in str(fault.value) or f"s3://{uri.bucket}" in str(fault.value)


def untouched(outside):
    return {str(p.relative_to(outside)) for p in outside.rglob("*")} == {
        "secret",
        "below",
        "below/secret",
    } and (outside / "secret").read_bytes() == b"secret"


def test_a_link_to_a_file_is_refused(store, bucket, outside):
    (bucket / "one").symlink_to(outside / "secret")
    everything_refuses(store, ObjectUri("calls", "one"), "symbolic link")
    assert untouched(outside)
    assert (bucket / "one").is_symlink()


def test_a_link_within_the_bucket_is_refused_too(store, bucket):
    store.write(ObjectUri("calls", "real"), b"x")
    (bucket / "one").symlink_to("real")
    everything_refuses(store, ObjectUri("calls", "one"), "symbolic link")


def test_a_dead_link_is_refused(store, bucket, outside):
    (bucket / "one").symlink_to(outside / "new")
    everything_refuses(store, ObjectUri("calls", "one"), "symbolic link")
    assert untouched(outside)


@pytest.mark.parametrize("key", ["folder/secret", "folder/below/secret", "folder/new/file"])
def test_a_link_to_a_folder_is_refused(store, bucket, outside, key):
    (bucket / "folder").symlink_to(outside)
    everything_refuses(store, ObjectUri("calls", key), "symbolic link")
    assert untouched(outside)


def test_a_link_deep_in_the_path_is_refused(store, bucket, outside):
    store.write(ObjectUri("calls", "a/b/c"), b"x")
    (bucket / "a" / "b" / "up").symlink_to("../../../../outside")
    everything_refuses(store, ObjectUri("calls", "a/b/up/secret"), "symbolic link")
    assert untouched(outside)


def test_a_bucket_that_is_a_link_is_refused(store, tmp_path, outside):
    (tmp_path / "buckets" / "linked").symlink_to(outside)
    everything_refuses(store, ObjectUri("linked", "secret"), "symbolic link")
    with pytest.raises(ObjectDenied, match="symbolic link"):
        store.list("linked")
    assert store.buckets() == ["calls"]
    assert untouched(outside)


def test_folder_replaced_by_a_link_during_listing_is_skipped(store, bucket, outside):
    for key in ("a", "b/c"):
        store.write(ObjectUri("calls", key), b"x")
    listed = store.list("calls")
    next(listed)
    (bucket / "b").rename(bucket / ".s3~gone")
    (bucket / "b").symlink_to(outside)
    assert list(listed) == []


def test_removal_of_stale_files_does_not_leave_the_folder(store, bucket, outside):
    (bucket / "folder").symlink_to(outside)
    (outside / ".s3~tmp-00").write_bytes(b"")
    os.utime(outside / ".s3~tmp-00", (0, 0))
    assert store.remove_stale_files() == 0
    (outside / ".s3~tmp-00").unlink()
    assert untouched(outside)


def test_the_root_itself_may_be_a_link_since_the_operator_chose_it(tmp_path, store, bucket):
    store.write(ObjectUri("calls", "one"), b"x")
    (tmp_path / "mounted").symlink_to(tmp_path / "buckets")
    assert LocalObjectStore(tmp_path / "mounted", keys=NO_KEYS).read(ObjectUri("calls", "one"), 1) == b"x"


@pytest.mark.timeout(PATIENCE_S)
def test_pipes_sockets_and_devices_are_refused_without_waiting(store, bucket):
    os.mkfifo(bucket / "pipe")
    here = Path.cwd()
    os.chdir(bucket)  # the path of a socket has about a hundred characters at most
    try:
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind("socket")
    finally:
        os.chdir(here)
    names = ["pipe", "socket"]
    if os.geteuid() == 0:
        os.mknod(bucket / "zero", 0o666 | 0o020000, os.makedev(1, 5))
        names.append("zero")
    for name in names:
        everything_refuses(store, ObjectUri("calls", name), "not a regular file")
    assert list(store.list("calls")) == []


@pytest.mark.parametrize(
    "key",
    ["../outside/secret", "../../outside/secret", "a/../../../outside/secret", "/etc/passwd", "..", "./.."],
)
def test_a_key_that_looks_like_a_way_out_is_only_a_name(store, bucket, outside, tmp_path, key):
    uri = ObjectUri("calls", key)
    store.write(uri, b"inside")
    assert store.read(uri, 10) == b"inside"
    assert untouched(outside)
    assert {path.name for path in tmp_path.iterdir()} == {"buckets", "keys", "outside"}
    store.delete(uri)
    assert list(bucket.iterdir()) == []
