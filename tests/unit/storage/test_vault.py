"""Vaults: values open for their own domain, kind and owner, and only with the key."""

from __future__ import annotations

import pytest

from sonant.errors import KeyUnusable, SealBroken
from sonant.storage.crypto.service_secret import ServiceSecret
from sonant.storage.crypto.vault import Vault, create_vault, open_vault
from sonant.storage.keys.stores.local import LocalKeyStore

ARN = "arn:aws:voiceid:us-east-1:000000000000:domain/d"


def test_a_domain_opens_again_from_its_wrapped_key(keys: LocalKeyStore) -> None:
    vault, wrapped = create_vault(keys, "alias/sonant", "d", ARN)
    sealed = vault.seal("name", "o", "Käthe")
    assert open_vault(keys, "d", ARN, wrapped).open("name", "o", sealed) == "Käthe"


def test_a_domain_does_not_open_under_another_domains_arn(keys: LocalKeyStore) -> None:
    _, wrapped = create_vault(keys, "alias/sonant", "d", ARN)
    with pytest.raises(SealBroken):
        open_vault(keys, "d", ARN + "x", wrapped)


def test_a_disabled_key_closes_the_domain_at_once(keys: LocalKeyStore) -> None:
    _, wrapped = create_vault(keys, "alias/sonant", "d", ARN)
    open_vault(keys, "d", ARN, wrapped)
    keys.disable("alias/sonant")
    with pytest.raises(KeyUnusable):
        open_vault(keys, "d", ARN, wrapped)


@pytest.mark.parametrize(("domain", "place", "owner"), [("e", "p", "o"), ("d", "q", "o"), ("d", "p", "x")])
def test_a_value_opens_in_no_other_place(domain: str, place: str, owner: str) -> None:
    sealed = Vault("d", bytes(32)).seal("p", "o", "text")
    with pytest.raises(SealBroken):
        Vault(domain, bytes(32)).open(place, owner, sealed)


def test_one_speakers_key_does_not_open_anothers_data() -> None:
    vault = Vault("d", bytes(32))
    first, _ = vault.new_speaker("id#1")
    second, _ = vault.new_speaker("id#2")
    sealed = first.seal("voiceprint", b"vector")
    assert first.open("voiceprint", sealed) == b"vector"
    with pytest.raises(SealBroken):
        second.open("voiceprint", sealed)


def test_a_speakers_wrapped_key_belongs_to_that_speaker() -> None:
    vault = Vault("d", bytes(32))
    _, wrapped = vault.new_speaker("id#1")
    with pytest.raises(SealBroken):
        vault.speaker("id#2", wrapped)


def test_equal_texts_are_sealed_differently_and_looked_up_equally() -> None:
    vault = Vault("d", bytes(32))
    assert vault.seal("p", "o", "text") != vault.seal("p", "o", "text")
    assert vault.lookup("customer") == vault.lookup("customer") != vault.lookup("customes")


def test_two_domains_hash_the_same_customer_differently() -> None:
    assert Vault("d", bytes(32)).lookup("c") != Vault("e", bytes([1] * 32)).lookup("c")


def test_the_services_secrets_do_not_open_each_others_values() -> None:
    secret = ServiceSecret(bytes(32))
    sealed = secret.seal_access_secret("AKIA", "s3cret")
    assert secret.open_access_secret("AKIA", sealed) == "s3cret"
    with pytest.raises(SealBroken):
        secret.open_access_secret("AKIB", sealed)
    with pytest.raises(SealBroken):
        secret.open_page("AKIA", sealed)
