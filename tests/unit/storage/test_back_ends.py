"""A back end is one module and one name in a registry, which settings can choose."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from made_back_ends import list_sink
from sqlite_template import put_tables

from sonant.assembly import workers
from sonant.assembly.installation import open_store
from sonant.errors import SetupError
from sonant.events.sinks import build_sinks
from sonant.iam import ALLOW_ALL, parse
from sonant.settings import S3, Events, Kms, Settings, loading
from sonant.settings.registries import EVENT_SINKS, KEY_STORES, OBJECT_STORES
from sonant.storage.objects.store import ObjectUri

MADE = (
    (KEY_STORES, "folders", "made_back_ends.key_folders"),
    (OBJECT_STORES, "shared", "made_back_ends.shared_folder"),
    (EVENT_SINKS, "list", "made_back_ends.list_sink"),
)
CONTEXT = {"purpose": "test"}


@pytest.fixture(autouse=True)
def made_back_ends():
    for registry, name, module in MADE:
        registry.register(name, module)
    yield
    for registry, name, _ in MADE:
        registry.unregister(name)


@pytest.fixture
def settings(tmp_path):
    loaded = loading.load(
        environment={
            "SONANT_DATA": str(tmp_path / "data"),
            "SONANT_KEYS": "folders",
            "SONANT_OBJECTS": "shared",
            "SONANT_EVENTS_SINKS": "list",
        }
    )
    return replace(loaded, kms=Kms(endpoint=str(tmp_path / "keys")), s3=S3(endpoint="nfs://calls"))


@pytest.fixture
def installation(settings):
    put_tables(settings.data / "sonant.db")
    made = open_store(settings, create=True)
    yield made
    made.database.close()


def test_made_key_store_serves_accounts_and_regions(installation, tmp_path):
    backends = installation.backends
    assert not backends.owns_keys
    backends.keys("1" * 12).create(alias="alias/calls")
    data_key = backends.keys("1" * 12, "eu-west-2").generate_data_key("alias/calls", CONTEXT)
    assert backends.keys("1" * 12).decrypt(data_key.wrapped, CONTEXT) == data_key.plaintext
    assert list((tmp_path / "keys" / ("1" * 12)).glob("*-*.json"))


def test_made_object_store_serves_the_service_and_roles(installation, settings):
    installation.backends.clean_up()
    installation.objects.create_bucket("calls")
    role = f"arn:aws:iam::{settings.account}:role/reader"
    objects = installation.backends.objects_as(
        role, [parse(ALLOW_ALL)], domain_arn="", account_id=settings.account
    )
    objects.write(ObjectUri("calls", "one"), b"speech", None)
    assert installation.objects.read(ObjectUri("calls", "one"), 10) == b"speech"


def test_made_object_store_says_what_hosts_must_agree_on(settings):
    assert workers.storage_location(settings)["folder"] == "nfs://calls"


def test_made_sink_gets_documents(settings):
    (sink,) = build_sinks(settings)
    assert sink.deliver([b"{}"]) == 1
    assert list_sink.DELIVERED == [b"{}"]


@pytest.mark.parametrize(
    ("variable", "error"),
    [
        ("SONANT_KEYS", "'tape', must be one of: local, aws-kms, pkcs11, folders"),
        ("SONANT_OBJECTS", "'tape', must be one of: local, s3, shared"),
    ],
)
def test_unknown_name_is_refused_with_the_known_ones(variable, error):
    with pytest.raises(SetupError, match=re.escape(error)):
        loading.load(environment={variable: "tape"})


def test_unknown_sink_is_refused_with_the_known_ones():
    with pytest.raises(SetupError, match=r"setting events\.sinks is 'tape', must be one of: file"):
        build_sinks(Settings(events=Events(sinks="tape")))
