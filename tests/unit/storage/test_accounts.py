"""Accounts of one service have separate keys and buckets."""

from __future__ import annotations

from datetime import UTC, datetime
from threading import Thread

import pytest
from waiting import PATIENCE_S

from sonant.errors import InvalidObjectName, KeyNotFound, SealBroken, StoreError
from sonant.storage.accounts import LocalAccounts
from sonant.storage.objects.store import ObjectUri
from sonant.storage.objects.stores.local import LocalObjectStore

FIRST, OTHER = "0" * 12, "1" * 12
CONTEXT = {"purpose": "test"}


@pytest.fixture
def accounts(tmp_path):
    return LocalAccounts(tmp_path, region="us-east-1", first=FIRST, clock=lambda: datetime.now(UTC))


def objects(accounts, account):
    return LocalObjectStore(accounts.buckets(account), accounts.keys(account))


def test_a_key_of_one_account_cannot_be_named_from_another(accounts):
    key = accounts.keys(FIRST).create(alias="alias/calls")
    for ref in (key.key_id, key.arn, "alias/calls", key.arn.replace(FIRST, OTHER)):
        with pytest.raises(KeyNotFound):
            accounts.keys(OTHER).generate_data_key(ref, CONTEXT)


def test_what_is_wrapped_in_one_account_does_not_open_in_another(accounts):
    accounts.keys(FIRST).create(alias="alias/calls")
    accounts.keys(OTHER).create(alias="alias/calls")
    wrapped = accounts.keys(FIRST).generate_data_key("alias/calls", CONTEXT).wrapped
    with pytest.raises((KeyNotFound, SealBroken)):
        accounts.keys(OTHER).decrypt(wrapped, CONTEXT)


def test_the_same_alias_names_each_accounts_own_key(accounts):
    made = {account: accounts.keys(account).create(alias="alias/calls") for account in (FIRST, OTHER)}
    for account, key in made.items():
        assert accounts.keys(account).describe("alias/calls").arn == key.arn
        assert key.arn.split(":")[4] == account


def test_same_bucket_name_in_two_accounts_has_different_objects(accounts):
    uri = ObjectUri.parse("s3://calls/a.wav")
    for account in (FIRST, OTHER):
        objects(accounts, account).create_bucket("calls")
        objects(accounts, account).write(uri, account.encode(), None)
    assert objects(accounts, FIRST).read(uri, 99) == FIRST.encode()
    assert objects(accounts, OTHER).read(uri, 99) == OTHER.encode()
    objects(accounts, OTHER).delete(uri)
    assert objects(accounts, FIRST).size(uri) == 12


def test_no_name_leads_from_one_accounts_buckets_into_anothers(accounts):
    objects(accounts, OTHER).create_bucket("calls")
    objects(accounts, OTHER).write(ObjectUri.parse("s3://calls/a.wav"), b"theirs", None)
    objects(accounts, FIRST).create_bucket("mine")
    for text in (
        f"s3://mine/../../accounts/{OTHER}/buckets/calls/a.wav",
        f"s3://accounts/{OTHER}/buckets/calls/a.wav",
    ):
        with pytest.raises((StoreError, InvalidObjectName)):
            objects(accounts, FIRST).read(ObjectUri.parse(text), 99)


def test_accounts_are_known_by_their_folders_the_first_one_first(accounts, tmp_path):
    assert accounts.known() == [FIRST]
    for account in ("3" * 12, OTHER):
        accounts.keys(account).create()
    (tmp_path / "accounts" / "a file").touch()
    assert accounts.known() == [FIRST, OTHER, "3" * 12]
    assert accounts.buckets(FIRST) == tmp_path / "buckets"
    assert accounts.buckets(OTHER) == tmp_path / "accounts" / OTHER / "buckets"


@pytest.mark.parametrize(
    "account", ["", "1", "1" * 13, "../../etc/abc", "1" * 11 + "/", "\u0661" * 12, "aaaaaaaaaaaa"]
)
def test_what_is_no_account_id_never_becomes_a_path(accounts, account):
    with pytest.raises(ValueError, match="an account id has 12 digits"):
        accounts.keys(account)
    with pytest.raises(ValueError, match="an account id has 12 digits"):
        accounts.buckets(account)


def test_threads_that_ask_at_once_get_one_key_store(accounts):
    found = []
    threads = [Thread(target=lambda: found.append(accounts.keys(OTHER))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(found) == 8
    assert len({id(store) for store in found}) == 1
