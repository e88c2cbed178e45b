"""Keys in a PKCS#11 token, tested on SoftHSM2."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from softhsm import PIN, SoftHsm

from sonant.errors import KeyNotFound, KeysUnreachable, KeyUnusable, SealBroken, SetupError
from sonant.settings import Pkcs11
from sonant.storage.keys.stores import pkcs11 as pkcs11_material
from sonant.storage.keys.stores.local import LocalKeyStore
from sonant.storage.keys.stores.pkcs11 import Token, TokenMaterial, token_material

pytestmark = pytest.mark.xdist_group("hsm")  # one module a process

CONTEXT = {"aws:voiceid:domain:arn": "arn:aws:voiceid:us-east-1:000000000000:domain/AbCdEfGhIjKlMnOpQrStUv"}


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


Open = Callable[..., LocalKeyStore]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(hsm: SoftHsm, token: str) -> Iterator[Pkcs11]:
    made = Pkcs11(module=str(hsm.module), token=token, pin=PIN)
    yield made
    pkcs11_material.open_token(made).close()


@pytest.fixture
def open_keys(tmp_path: Path, settings: Pkcs11, clock: Clock) -> Open:
    def make(cache_s: float = 0.0, **known: Any) -> LocalKeyStore:
        return LocalKeyStore(
            tmp_path / "keys", region="us-east-1", account="0" * 12, clock=clock,
            **{"material": token_material(settings, cache_s), **known},
        )  # fmt: skip

    return make


@pytest.fixture
def store(open_keys: Open) -> LocalKeyStore:
    return open_keys()


def objects(hsm: SoftHsm, token: str) -> list[Any]:
    import pkcs11

    library = pkcs11.lib(str(hsm.module))
    session = library.get_token(token_label=token).open(rw=True)  # the login is the process's
    return list(session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY}))


# --- use


def test_a_data_key_opens_with_its_context_and_with_no_other(store: LocalKeyStore, open_keys: Open) -> None:
    key = store.create(alias="alias/calls")
    made = store.generate_data_key("alias/calls", CONTEXT)
    assert len(made.plaintext) == 32
    assert store.key_of(made.wrapped) == key.arn
    assert open_keys().decrypt(made.wrapped, CONTEXT) == made.plaintext
    for wrapped, context in (
        (made.wrapped, {**CONTEXT, "more": "x"}),
        (made.wrapped[:-1] + bytes([made.wrapped[-1] ^ 1]), CONTEXT),
    ):
        with pytest.raises(SealBroken):
            store.decrypt(wrapped, context)
    assert store.decrypt(made.wrapped, CONTEXT) == made.plaintext


def test_the_same_data_key_goes_under_another_key(store: LocalKeyStore) -> None:
    first, second = store.create(), store.create()
    made = store.generate_data_key(first.key_id, CONTEXT)
    moved = store.re_wrap(made.wrapped, CONTEXT, second.key_id)
    assert store.key_of(moved) == second.arn
    assert store.decrypt(moved, CONTEXT) == made.plaintext


def test_the_material_is_in_the_token_and_stays_there(
    store: LocalKeyStore, hsm: SoftHsm, token: str, tmp_path: Path
) -> None:
    import pkcs11
    from pkcs11.exceptions import AttributeSensitive

    key = store.create()
    (found,) = objects(hsm, token)
    assert found.label == key.key_id
    assert found[pkcs11.Attribute.SENSITIVE]
    assert not found[pkcs11.Attribute.EXTRACTABLE]
    with pytest.raises(AttributeSensitive):
        found[pkcs11.Attribute.VALUE]
    kept = json.loads((tmp_path / "keys" / f"{key.key_id}.json").read_text())
    assert "material" not in kept


def test_what_the_token_did_is_aead_that_others_open(settings: Pkcs11, hsm: SoftHsm, token: str) -> None:
    """The wrapped form is AES-256-GCM with the bound data: changing any of the parts opens nothing."""
    material = TokenMaterial(Token(settings), 0)
    cipher = material.cipher(material.make("label"))
    sealed = cipher.encrypt(b"n" * 12, b"d" * 32, b"bound")
    assert len(sealed) == 48
    assert cipher.decrypt(b"n" * 12, sealed, b"bound") == b"d" * 32
    for nonce, data, bound in (
        (b"m" * 12, sealed, b"bound"), (b"n" * 12, sealed[:-1], b"bound"), (b"n" * 12, sealed, b"other"),
    ):  # fmt: skip
        assert cipher.decrypt(nonce, data, bound) is None


# --- states


def test_disabled_key_is_refused_at_once_despite_the_cache(open_keys: Open) -> None:
    store = open_keys(cache_s=60)
    key = store.create()
    made = store.generate_data_key(key.key_id, CONTEXT)
    assert store.decrypt(made.wrapped, CONTEXT) == made.plaintext
    open_keys().disable(key.key_id)  # another process, as it were
    with pytest.raises(KeyUnusable):
        store.decrypt(made.wrapped, CONTEXT)
    store.enable(key.key_id)
    assert store.decrypt(made.wrapped, CONTEXT) == made.plaintext


def test_a_key_whose_time_is_over_is_destroyed_in_the_token(
    store: LocalKeyStore, clock: Clock, hsm: SoftHsm, token: str
) -> None:
    gone, stays = store.create(), store.create()
    made = store.generate_data_key(gone.key_id, CONTEXT)
    store.schedule_deletion(gone.key_id, 7)
    clock.now += timedelta(days=7)
    assert store.purge_due() == [gone.key_id]
    assert [one.label for one in objects(hsm, token)] == [stays.key_id]
    with pytest.raises(KeyNotFound):
        store.decrypt(made.wrapped, CONTEXT)


def test_rotated_key_opens_old_data_keys_until_they_are_forgotten(
    store: LocalKeyStore, hsm: SoftHsm, token: str
) -> None:
    key = store.create()
    before = store.generate_data_key(key.key_id, CONTEXT)
    store.rotate(key.key_id)
    after = store.generate_data_key(key.key_id, CONTEXT)
    assert [one.label for one in objects(hsm, token)] == [key.key_id] * 2
    assert store.decrypt(before.wrapped, CONTEXT) == before.plaintext
    assert (store.is_current(before.wrapped, CONTEXT), store.is_current(after.wrapped, CONTEXT)) == (
        False,
        True,
    )
    assert store.forget_earlier(key.key_id) == 1
    assert len(objects(hsm, token)) == 1
    with pytest.raises(SealBroken):
        store.decrypt(before.wrapped, CONTEXT)
    assert store.decrypt(after.wrapped, CONTEXT) == after.plaintext


def test_material_that_somebody_destroyed_in_the_token_is_not_found(
    store: LocalKeyStore, hsm: SoftHsm, token: str
) -> None:
    made = store.generate_data_key(store.create().key_id, CONTEXT)
    objects(hsm, token)[0].destroy()
    with pytest.raises(KeyNotFound):
        store.decrypt(made.wrapped, CONTEXT)


# --- a token that is away


@pytest.fixture
def pass_pause(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets the time pass in which a token that was away is not looked for."""
    passed_s = 0.0
    monkeypatch.setattr(pkcs11_material, "time", SimpleNamespace(monotonic=lambda: passed_s))

    def over() -> None:
        nonlocal passed_s
        passed_s += pkcs11_material.RETRY_PAUSE_S

    return over


def test_a_token_that_is_away_is_unreachable_and_serves_when_it_is_back(
    store: LocalKeyStore, hsm: SoftHsm, pass_pause: Callable[[], None]
) -> None:
    key = store.create()
    made = store.generate_data_key(key.key_id, CONTEXT)
    away = hsm.tokens.rename(hsm.folder / "away")
    try:
        for use in (
            lambda: store.decrypt(made.wrapped, CONTEXT),
            lambda: store.generate_data_key(key.key_id, CONTEXT),
            store.create,
        ):
            with pytest.raises(KeysUnreachable):
                use()
        assert store.describe(key.key_id) == key  # what the folder tells, it tells
    finally:
        away.rename(hsm.tokens)
    pass_pause()
    assert store.decrypt(made.wrapped, CONTEXT) == made.plaintext


def test_a_due_key_survives_a_token_that_is_away(
    store: LocalKeyStore, clock: Clock, hsm: SoftHsm, pass_pause: Callable[[], None]
) -> None:
    key = store.create()
    store.schedule_deletion(key.key_id, 7)
    clock.now += timedelta(days=7)
    away = hsm.tokens.rename(hsm.folder / "away")
    try:
        with pytest.raises(KeysUnreachable):
            store.purge_due()
    finally:
        away.rename(hsm.tokens)
    pass_pause()
    assert store.purge_due() == [key.key_id]


# python-pkcs11 complains of a search that it cannot end, since its session is gone.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_session_that_was_lost_is_opened_again_unnoticed(store: LocalKeyStore, hsm: SoftHsm) -> None:
    import pkcs11

    made = store.generate_data_key(store.create().key_id, CONTEXT)
    pkcs11.lib(str(hsm.module)).reinitialize()
    assert store.decrypt(made.wrapped, CONTEXT) == made.plaintext


def test_an_opened_data_key_serves_for_the_time_that_is_set(open_keys: Open, hsm: SoftHsm) -> None:
    store = open_keys(cache_s=60)
    made = store.generate_data_key(store.create().key_id, CONTEXT)
    assert store.decrypt(made.wrapped, CONTEXT) == made.plaintext
    away = hsm.tokens.rename(hsm.folder / "away")
    try:
        assert store.decrypt(made.wrapped, CONTEXT) == made.plaintext
        with pytest.raises(KeysUnreachable):
            open_keys(cache_s=0).decrypt(made.wrapped, CONTEXT)
    finally:
        away.rename(hsm.tokens)


def test_several_threads_share_the_session(store: LocalKeyStore) -> None:
    key, failed = store.create(), []

    def work() -> None:
        for _ in range(20):
            made = store.generate_data_key(key.key_id, CONTEXT)
            if store.decrypt(made.wrapped, CONTEXT) != made.plaintext:
                failed.append(made)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


# --- the PIN and the settings


def test_a_wrong_pin_is_tried_once_and_never_shown(
    settings: Pkcs11, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Tokens lock themselves after some wrong PINs."""
    caplog.set_level("DEBUG")
    file = tmp_path / "pin"
    file.write_text("wrong-pin-99887766\n")
    made = Token(Pkcs11(module=settings.module, token=settings.token, pin_file=str(file)))
    monkeypatch.setattr(pkcs11_material, "RETRY_PAUSE_S", 0.0)
    for reason in ("PinIncorrect", "refused this PIN before", "refused this PIN before"):
        with pytest.raises(KeysUnreachable, match=reason) as fault:
            made.make("x", b"x" * 32)
        assert "99887766" not in str(fault.value)
    file.write_text(PIN + "\n")
    made.make("x", b"x" * 32)
    made.close()
    assert "99887766" not in caplog.text
    assert PIN not in caplog.text
    assert PIN not in repr(settings)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"module": ""}, "pkcs11.module"),
        ({"token": ""}, "pkcs11.token"),
        ({"pin": ""}, "pkcs11.pin"),
        ({"pin_file": "/x"}, "one of pkcs11.pin and pkcs11.pin_file"),
    ],
)
def test_settings_that_lack_something_are_reported(changed: dict[str, str], told: str) -> None:
    known = {"module": "/module.so", "token": "sonant", "pin": PIN}
    with pytest.raises(SetupError, match=told) as fault:
        token_material(Pkcs11(**{**known, **changed}), 5.0)
    assert PIN not in str(fault.value)


@pytest.mark.parametrize("changed", [{"token": "no-such-token"}, {"module": "/no/such/module.so"}])
def test_a_token_or_module_that_is_not_there_is_unreachable(
    settings: Pkcs11, changed: dict[str, str]
) -> None:
    known = {"module": settings.module, "token": settings.token, "pin": PIN}
    with pytest.raises(KeysUnreachable):
        Token(Pkcs11(**{**known, **changed})).make("x", b"x" * 32)


def test_a_key_in_a_token_is_not_taken_for_one_in_a_file(store: LocalKeyStore, open_keys: Open) -> None:
    """Or the name of its object, which is no secret, would become a key."""
    key = store.create()
    with pytest.raises(SetupError, match="set `keys` to pkcs11"):
        open_keys(material=None).generate_data_key(key.key_id, CONTEXT)
    other = open_keys(material=None).create()
    with pytest.raises(SetupError, match="set `keys` to local"):
        store.generate_data_key(other.key_id, CONTEXT)


def test_a_service_on_other_keys_never_loads_the_library() -> None:
    program = (
        "import sys, tempfile, pathlib\n"
        "from sonant.assembly import installation, service\n"
        "from sonant.settings import Settings\n"
        "data = pathlib.Path(tempfile.mkdtemp()) / 'data'\n"
        "installation.open_store(Settings(data=data), create=True).backends.clean_up()\n"
        "print(sorted({'pkcs11', 'sonant.storage.keys.stores.pkcs11'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
