"""Principals, access keys and temporary credentials."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from sonant.errors import IntegrityFault, SealBroken, SetupError
from sonant.iam import ALLOW_ALL
from sonant.storage.crypto.service_secret import ServiceSecret
from sonant.storage.repositories import access

NOW = datetime(2026, 3, 1, tzinfo=UTC)
USER = "arn:aws:iam::000000000000:user/teams/anna"
ROLE = "arn:aws:iam::000000000000:role/reader"
SECRET = ServiceSecret(bytes(32))


@pytest.fixture
def connection(database):
    """With a user and a role who may do everything."""
    with database.write() as connection:
        for arn in (USER, ROLE):
            access.put_principal(connection, arn, "0" * 12, [ALLOW_ALL], NOW, tags={"team": "fraud"})
        yield connection


def found(connection, key_id):
    return access.find_secret(connection, SECRET, key_id)


def test_an_access_key_is_found_with_its_secret_and_its_principal(connection):
    key_id, secret = access.create_access_key(connection, SECRET, USER, NOW)
    assert key_id.startswith("AKIA")
    assert len(key_id) == 20
    kept = found(connection, key_id)
    assert (kept.secret, kept.session_token, kept.expires_at) == (secret, None, None)
    assert (kept.principal.arn, kept.principal.name) == (USER, "teams/anna")
    assert kept.principal.tags == {"team": "fraud"}


def test_secrets_are_stored_sealed_and_not_shown(connection):
    key_id, secret = access.create_access_key(connection, SECRET, USER, NOW)
    made = access.create_temporary(connection, SECRET, ROLE, NOW, timedelta(hours=1))
    rows = connection.execute(text("SELECT secret_sealed, token_sealed FROM access_keys")).all()
    stored = b"".join(value for row in rows for value in row if value is not None)
    for plain in (secret, made.secret, made.session_token):
        assert plain.encode() not in stored
        assert plain not in repr(made)
        assert plain not in repr(found(connection, key_id))
    with pytest.raises(SealBroken):
        access.find_secret(connection, ServiceSecret(bytes([1] * 32)), key_id)


def test_a_secret_moved_to_another_key_is_an_integrity_fault(connection):
    one, _ = access.create_access_key(connection, SECRET, USER, NOW)
    other, _ = access.create_access_key(connection, SECRET, USER, NOW)
    connection.execute(
        text(
            "UPDATE access_keys SET secret_sealed = (SELECT secret_sealed FROM access_keys "
            "WHERE access_key_id = :other) WHERE access_key_id = :one"
        ),
        {"one": one, "other": other},
    )
    with pytest.raises(IntegrityFault, match="access_keys"):
        found(connection, one)


def test_a_key_that_was_disabled_or_deleted_is_not_found(connection):
    key_id, _ = access.create_access_key(connection, SECRET, USER, NOW)
    assert access.set_active(connection, key_id, False)
    assert found(connection, key_id) is None
    assert access.set_active(connection, key_id, True)
    assert found(connection, key_id) is not None
    assert access.delete_access_key(connection, key_id)
    assert found(connection, key_id) is None
    assert not access.delete_access_key(connection, key_id)
    assert not access.set_active(connection, key_id, True)


def test_a_principal_takes_its_keys_with_it_and_no_others(connection):
    gone, _ = access.create_access_key(connection, SECRET, USER, NOW)
    kept, _ = access.create_access_key(connection, SECRET, ROLE, NOW)
    assert access.delete_principal(connection, USER)
    assert found(connection, gone) is None
    assert [key.access_key_id for key in access.list_access_keys(connection)] == [kept]
    assert access.list_principals(connection) == [ROLE]
    assert access.policy_texts(connection, USER) is None
    assert not access.delete_principal(connection, USER)


def test_policies_are_replaced_and_tags_stay_unless_given(connection):
    def tags():
        principal = access.find_principal(connection, USER)
        assert principal is not None
        return principal.tags

    access.put_principal(connection, USER, "0" * 12, [], NOW)
    assert access.policy_texts(connection, USER) == ()
    assert tags() == {"team": "fraud"}
    access.put_principal(connection, USER, "0" * 12, [], NOW, tags={})
    assert tags() == {}


def test_a_policy_that_does_not_parse_changes_nothing(connection):
    with pytest.raises(SetupError):
        access.put_principal(connection, USER, "0" * 12, [ALLOW_ALL, "{"], NOW)
    assert access.policy_texts(connection, USER) == (ALLOW_ALL,)


def test_temporary_credentials_say_when_they_end(connection):
    made = access.create_temporary(connection, SECRET, ROLE, NOW, timedelta(seconds=900))
    assert made.access_key_id.startswith("ASIA")
    assert made.expires_at == NOW + timedelta(seconds=900)
    kept = found(connection, made.access_key_id)
    assert (kept.secret, kept.session_token) == (made.secret, made.session_token)
    assert (kept.principal.arn, kept.expires_at) == (ROLE, made.expires_at)


def test_only_expired_temporary_credentials_are_deleted(connection):
    first = access.create_temporary(connection, SECRET, ROLE, NOW, timedelta(hours=1))
    lasting, _ = access.create_access_key(connection, SECRET, USER, NOW)
    assert access.delete_expired(connection, first.expires_at - timedelta(microseconds=1)) == 0
    assert found(connection, first.access_key_id) is not None
    assert access.delete_expired(connection, first.expires_at) == 1
    assert found(connection, first.access_key_id) is None
    assert found(connection, lasting) is not None
