"""Keys in AWS KMS. moto proves calls, contexts, re-encryption and grants; it goes on opening data keys of
disabled keys, so the states are proved on ministack, which cannot re-encrypt."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aws_servers import REGION, Relay, official, relay
from waiting import PATIENCE_S

from sonant.errors import KeyDenied, KeyNotFound, KeysUnreachable, KeyUnusable, SealBroken
from sonant.storage.aws_clients import ClientConfig, make_client
from sonant.storage.crypto.vault import create_vault, encryption_context, open_vault
from sonant.storage.keys.stores.aws_kms import AwsKeyStore

pytestmark = pytest.mark.xdist_group("aws")  # one set of servers

MOTO, MINISTACK = "123456789012", "000000000000"
DOMAIN = f"arn:aws:voiceid:{REGION}:{MOTO}:domain/AbCdEfGhIjKlMnOpQrStUv"
CONTEXT = encryption_context(DOMAIN)
GRANTEE = f"arn:aws:iam::{MOTO}:role/sonant-service"


class Timer:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def timer() -> Timer:
    return Timer()


Make = Callable[..., AwsKeyStore]


@pytest.fixture
def line(moto_url: str) -> Iterator[Relay]:
    with relay(moto_url) as found:
        yield found


@pytest.fixture
def store_at(timer: Timer) -> Make:
    def make(url: str, account: str = MOTO, **more: Any) -> AwsKeyStore:
        place = ClientConfig(
            region=REGION, endpoint=url, access_key_id="test", secret_access_key="test", attempts=2,
            connect_timeout_s=PATIENCE_S, read_timeout_s=PATIENCE_S,
        )  # fmt: skip
        client = make_client("kms", place)
        settled = {"cache_s": 5.0, "timer": timer, **more}
        return AwsKeyStore(lambda: client, region=REGION, account=account, **settled)

    return make


@pytest.fixture
def kms(moto_url: str) -> Any:
    return official("kms", moto_url)


@pytest.fixture
def key(kms: Any) -> str:
    return str(kms.create_key(Description="of calls")["KeyMetadata"]["Arn"])


def calls(line: Relay, operation: str) -> int:
    return sum(one.headers.get("x-amz-target") == f"TrentService.{operation}" for one in line.seen)


# --- moto: what is asked


def test_a_data_key_opens_again_with_its_context_and_with_no_other(
    store_at: Make, moto_url: str, key: str
) -> None:
    made = store_at(moto_url).generate_data_key(key, CONTEXT)
    other = store_at(moto_url)  # another process, as it were
    assert len(made.plaintext) == 32
    assert other.decrypt(made.wrapped, CONTEXT) == made.plaintext
    assert other.key_of(made.wrapped) == key
    with pytest.raises(SealBroken):
        other.decrypt(made.wrapped, {**CONTEXT, "more": "x"})


def test_a_key_goes_by_id_alias_and_arn(store_at: Make, moto_url: str, kms: Any, key: str) -> None:
    name = f"alias/calls-{key[-12:]}"
    kms.create_alias(AliasName=name, TargetKeyId=key)
    store = store_at(moto_url)
    for ref in (key, key.rpartition("/")[2], name, f"arn:aws:kms:{REGION}:{MOTO}:{name}"):
        found = store.describe(ref)
        assert (found.arn, found.state, found.symmetric) == (key, "Enabled", True)
        assert store.key_of(store.generate_data_key(ref, CONTEXT).wrapped) == key


@pytest.mark.parametrize(
    "ref",
    [
        "alias/none",
        "11111111-2222-3333-4444-555555555555",
        f"arn:aws:kms:{REGION}:999999999999:key/11111111-2222-3333-4444-555555555555",
        f"arn:aws:kms:eu-west-1:{MOTO}:key/11111111-2222-3333-4444-555555555555",
        "arn:aws:s3:::bucket",
        "",
        "a\nb",
        "x" * 3000,
    ],
)
def test_name_of_no_key_in_this_account_and_region_is_not_found(
    store_at: Make, moto_url: str, ref: str
) -> None:
    for use in (lambda s: s.describe(ref), lambda s: s.generate_data_key(ref, CONTEXT)):
        with pytest.raises(KeyNotFound):
            use(store_at(moto_url))


def test_a_key_of_another_account_is_out_of_reach(store_at: Make, moto_url: str, key: str) -> None:
    stranger = store_at(moto_url, account="999999999999")
    for ref in (key, key.rpartition("/")[2]):
        with pytest.raises(KeyNotFound):
            stranger.describe(ref)


def test_an_asymmetric_key_is_told_apart(store_at: Make, moto_url: str, kms: Any) -> None:
    made = kms.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    assert not store_at(moto_url).describe(made).symmetric


def test_re_wrapping_keeps_the_data_key_and_never_shows_it(
    store_at: Make, line: Relay, kms: Any, key: str
) -> None:
    store, new = store_at(line.url), kms.create_key()["KeyMetadata"]["Arn"]
    made = store.generate_data_key(key, CONTEXT)
    wrapped = store.re_wrap(made.wrapped, CONTEXT, new)
    assert store.key_of(wrapped) == new
    assert (calls(line, "ReEncrypt"), calls(line, "Decrypt")) == (1, 0)
    assert store.decrypt(wrapped, CONTEXT) == made.plaintext


@pytest.mark.parametrize("wrapped", [b"", b"SNA\x01", b"SNA\x01\x00\x03abcblob", b"SNK\x01" + bytes(76)])
def test_bytes_that_are_no_wrapped_key_are_refused_unasked(store_at: Make, wrapped: bytes) -> None:
    with pytest.raises(SealBroken):
        store_at("http://127.0.0.1:9").decrypt(wrapped, CONTEXT)


def test_a_blob_under_another_keys_name_does_not_open(
    store_at: Make, moto_url: str, kms: Any, key: str
) -> None:
    """AWS answers IncorrectKeyException, moto AccessDeniedException."""
    store = store_at(moto_url)
    other = kms.create_key()["KeyMetadata"]["Arn"]
    made = store.generate_data_key(key, CONTEXT)
    with pytest.raises((SealBroken, KeyDenied)):
        store.decrypt(made.wrapped.replace(key.encode(), other.encode()), CONTEXT)


def test_an_opened_data_key_serves_for_the_set_time_and_no_longer(
    store_at: Make, line: Relay, key: str, timer: Timer
) -> None:
    store = store_at(line.url, cache_s=5.0)
    made = store.generate_data_key(key, CONTEXT)
    for after_s, asked in ((0.0, 1), (4.9, 1), (5.0, 2), (9.9, 2), (10.0, 3)):
        timer.s = 1000.0 + after_s
        assert store.decrypt(made.wrapped, CONTEXT) == made.plaintext
        assert calls(line, "Decrypt") == asked


def test_with_a_time_of_0_kms_is_asked_every_time(store_at: Make, line: Relay, key: str) -> None:
    store = store_at(line.url, cache_s=0.0)
    made = store.generate_data_key(key, CONTEXT)
    for _ in range(3):
        store.decrypt(made.wrapped, CONTEXT)
    assert calls(line, "Decrypt") == 3


def test_an_opened_data_key_does_not_serve_another_context(store_at: Make, moto_url: str, key: str) -> None:
    store = store_at(moto_url)
    made = store.generate_data_key(key, CONTEXT)
    store.decrypt(made.wrapped, CONTEXT)
    with pytest.raises(SealBroken):
        store.decrypt(made.wrapped, encryption_context("arn:aws:voiceid:another"))


def test_domain_makes_one_grant_for_its_context_and_retires_it(
    store_at: Make, moto_url: str, kms: Any, key: str
) -> None:
    store = store_at(moto_url, grantee=GRANTEE)
    other = DOMAIN.replace("AbCd", "Other")
    _, wrapped = create_vault(store, key, "AbCdEfGhIjKlMnOpQrStUv", DOMAIN)
    create_vault(store, key, "OtherEfGhIjKlMnOpQrStUv", other)
    grants = {grant["Name"]: grant for grant in kms.list_grants(KeyId=key)["Grants"]}
    assert set(grants) == {DOMAIN, other}
    assert grants[DOMAIN]["Constraints"] == {"EncryptionContextEquals": CONTEXT}
    assert grants[DOMAIN]["GranteePrincipal"] == grants[DOMAIN]["RetiringPrincipal"] == GRANTEE
    assert "CreateGrant" not in grants[DOMAIN]["Operations"]
    open_vault(store, "AbCdEfGhIjKlMnOpQrStUv", DOMAIN, wrapped)
    store.retire(key, CONTEXT)
    store.retire(key, CONTEXT)
    assert [grant["Name"] for grant in kms.list_grants(KeyId=key)["Grants"]] == [other]


def test_a_fresh_grants_token_is_shown_until_it_has_spread(
    store_at: Make, line: Relay, key: str, timer: Timer
) -> None:
    store = store_at(line.url, grantee=GRANTEE, cache_s=0.0)
    store.grant(key, CONTEXT)
    made = store.generate_data_key(key, CONTEXT)
    store.decrypt(made.wrapped, CONTEXT)
    assert [b"GrantTokens" in one.body for one in line.seen[-2:]] == [True, True]
    timer.s += 300.1
    store.decrypt(made.wrapped, CONTEXT)
    assert b"GrantTokens" not in line.seen[-1].body


def test_without_a_grantee_no_grant_is_made(store_at: Make, moto_url: str, kms: Any, key: str) -> None:
    create_vault(store_at(moto_url), key, "AbCdEfGhIjKlMnOpQrStUv", DOMAIN)
    assert kms.list_grants(KeyId=key)["Grants"] == []


def test_a_kms_that_is_down_is_no_verdict_on_the_key(store_at: Make, line: Relay, key: str) -> None:
    store = store_at(line.url)
    made = store.generate_data_key(key, CONTEXT)
    line.refuse += [500] * 10
    for use in (lambda: store.decrypt(made.wrapped, CONTEXT), lambda: store.describe(key)):
        with pytest.raises(KeysUnreachable):
            use()
    with pytest.raises(KeysUnreachable):
        store_at("http://127.0.0.1:9").describe(key)


# --- ministack: the states


@pytest.fixture
def states(ministack_url: str) -> Any:
    return official("kms", ministack_url)


@pytest.mark.parametrize("state", ["Disabled", "PendingDeletion"])
def test_a_key_taken_out_of_use_refuses_within_the_set_time(
    store_at: Make, ministack_url: str, states: Any, timer: Timer, state: str
) -> None:
    key = states.create_key()["KeyMetadata"]["Arn"]
    store = store_at(ministack_url, account=MINISTACK, cache_s=5.0)
    _, wrapped = create_vault(store, key, "AbCdEfGhIjKlMnOpQrStUv", DOMAIN)
    open_vault(store, "AbCdEfGhIjKlMnOpQrStUv", DOMAIN, wrapped)
    if state == "Disabled":
        states.disable_key(KeyId=key)
    else:
        states.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)

    assert store.describe(key).state == state, "the state itself is never remembered"
    with pytest.raises(KeyUnusable):
        store.generate_data_key(key, CONTEXT)
    timer.s += 5.0
    for _ in range(2):
        with pytest.raises(KeyUnusable):
            open_vault(store, "AbCdEfGhIjKlMnOpQrStUv", DOMAIN, wrapped)


def test_a_key_enabled_again_opens_at_once(
    store_at: Make, ministack_url: str, states: Any, timer: Timer
) -> None:
    key = states.create_key()["KeyMetadata"]["Arn"]
    store = store_at(ministack_url, account=MINISTACK)
    _, wrapped = create_vault(store, key, "AbCdEfGhIjKlMnOpQrStUv", DOMAIN)
    states.disable_key(KeyId=key)
    with pytest.raises(KeyUnusable):
        store.decrypt(wrapped, CONTEXT)
    states.enable_key(KeyId=key)
    store.decrypt(wrapped, CONTEXT)


def test_a_right_that_was_taken_away_is_a_refusal(
    store_at: Make, moto_url: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of the servers judges key policies: the answer is the one AWS documents, put in by hand."""
    from botocore.exceptions import ClientError

    class Refusing:
        def decrypt(self, **_: Any) -> None:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "secret"}}, "Decrypt")

    made = store_at(moto_url).generate_data_key(key, CONTEXT)
    store = AwsKeyStore(Refusing, region=REGION, account=MOTO, cache_s=5.0)
    with pytest.raises(KeyDenied) as denied:
        store.decrypt(made.wrapped, CONTEXT)
    assert "secret" not in str(denied.value)


def test_the_local_default_imports_nothing_of_aws() -> None:
    """`botocore.session` is what costs; a service on local back ends must not load it at its start."""
    program = (
        "import sys, tempfile, pathlib\n"
        "from sonant.assembly import installation, service, worker_process\n"
        "from sonant.jobs.entry import Role\n"
        "from sonant.settings import Settings\n"
        "data = pathlib.Path(tempfile.mkdtemp()) / 'data'\n"
        "store = installation.open_store(Settings(data=data), create=True)\n"
        "role = Role(arn='arn:aws:iam::000000000000:role/x', policies=())\n"
        "worker_process.granted_objects(store.backends, role)\n"
        "store.backends.clean_up()\n"
        "bad = {'boto3', 'botocore.session', 'sonant.storage.keys.stores.aws_kms',"
        " 'sonant.storage.objects.stores.s3'}\n"
        "print(sorted(bad & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
