"""Policies of a role are checked before objects are read and written."""

from __future__ import annotations

import json

import pytest

from sonant.errors import BucketNotFound, KeyUnusable, ObjectDenied, ObjectNameConflict
from sonant.iam import ALLOW_ALL, parse
from sonant.storage.objects.store import ObjectUri
from sonant.storage.objects.stores.local import LocalObjectStore
from sonant.storage.role_policies import PolicyCheckedObjects

ROLE = "arn:aws:iam::000000000000:role/reader"


@pytest.fixture
def granted(tmp_path, keys):
    def make(*policies):
        store = lambda keys: LocalObjectStore(tmp_path / "buckets", keys)  # noqa: E731
        store(keys).create_bucket("out")
        return PolicyCheckedObjects(store, keys, ROLE, [parse(text) for text in policies])

    return make


def uri(text):
    return ObjectUri.parse(text)


def files(tmp_path):
    return sorted(path.name for path in (tmp_path / "buckets").rglob("*") if path.is_file())


@pytest.mark.parametrize("key", ["results/job/m.out", "a/b/results/job/m.out", "results"])
def test_a_place_that_is_free_is_writable_and_stays_free(granted, tmp_path, key):
    granted(ALLOW_ALL).check_writable(uri(f"s3://out/{key}"), None)
    assert files(tmp_path) == []


def test_folder_in_the_path_passes_the_check(granted):
    objects = granted(ALLOW_ALL)
    objects.write(uri("s3://out/results/other"), b"1", None)
    objects.check_writable(uri("s3://out/results/job/m.out"), None)
    objects.check_writable(uri("s3://out/results/other"), None)


@pytest.mark.parametrize("taken", ["results", "results/job", "results/job/deep"])
def test_object_in_the_path_fails_the_check_as_it_fails_the_write(granted, taken):
    objects = granted(ALLOW_ALL)
    objects.write(uri(f"s3://out/{taken}"), b"1", None)
    place = uri("s3://out/results/job/deep/m.out")
    with pytest.raises(ObjectNameConflict) as checked:
        objects.check_writable(place, None)
    with pytest.raises(ObjectNameConflict) as written:
        objects.write(place, b"2", None)
    assert str(checked.value) == str(written.value)
    assert objects.read(uri(f"s3://out/{taken}"), 10) == b"1"


def test_sealed_object_in_the_path_fails_the_check_with_a_disabled_key(granted, keys):
    objects = granted(ALLOW_ALL)
    objects.write(uri("s3://out/results"), b"1", "alias/sonant")
    keys.disable("alias/sonant")
    with pytest.raises(ObjectNameConflict):
        objects.check_writable(uri("s3://out/results/m.out"), None)


def test_a_missing_bucket_right_or_key_is_noticed(granted, keys):
    with pytest.raises(BucketNotFound):
        granted(ALLOW_ALL).check_writable(uri("s3://none/m.out"), None)
    highpass_300hz = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::out/mine/*"},
        }
    )
    granted(highpass_300hz).check_writable(uri("s3://out/mine/m.out"), None)
    with pytest.raises(ObjectDenied, match=f"the role {ROLE} has no right s3:PutObject on s3://out/m.out"):
        granted(highpass_300hz).check_writable(uri("s3://out/m.out"), None)
    keys.disable("alias/sonant")
    with pytest.raises(KeyUnusable):
        granted(ALLOW_ALL).check_writable(uri("s3://out/m.out"), "alias/sonant")
