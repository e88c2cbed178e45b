"""Encrypt the files of local keys and of the service key, decrypt them, and say how they lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sonant.assembly.installation.service_key_files import ServiceKeyFiles
from sonant.assembly.installation.service_key_rotation import rotation_lock
from sonant.assembly.installation.store import Store
from sonant.errors import SetupError
from sonant.settings import Settings
from sonant.storage.keys.wrapping import WrappedBy, is_wrapped, keys_folder, read_secret, wrapping_of
from sonant.storage.private_folder import PrivateFolder

#: The device of a TPM 2.0 on Linux, through the kernel's resource manager.
TPM_DEVICE = Path("/dev/tpmrm0")


def change_secret(settings: Settings, by: WrappedBy, former: bytes) -> None:
    """Give encrypted key files the secret of the settings, in place of `former`. Raises SetupError."""
    if wrapping_of(settings).record() is None:
        raise SetupError("the keys are not encrypted: there is no former secret")
    read_secret(settings.key_wrapping, by)
    with rotation_lock(settings, exclusive=True):
        wrapping_of(settings).begin(by, former)


def wrap_keys(store: Store, by: WrappedBy) -> int:
    """Encrypt all key files under the secret of the settings, and return how many.

    May be interrupted and repeated. Raises SetupError.
    """
    settings = store.settings
    read_secret(settings.key_wrapping, by)  # before anything is changed
    with rotation_lock(settings, exclusive=True):
        wrapping_of(settings).begin(by)
        return _write_again(store)


def unwrap_keys(store: Store) -> int:
    """Write all key files as they are, not encrypted, and return how many. Raises SetupError."""
    settings = store.settings
    with rotation_lock(settings, exclusive=True):
        wrapping = wrapping_of(settings)
        if wrapping.record() is None:
            raise SetupError("the keys are not encrypted")
        written = _write_again(store, plain=True)
        if left := wrapped_files(store.accounts.known(), settings):
            raise SetupError(f"{left[0]} was written meanwhile: try again")
        wrapping.end()
    return written


def _write_again(store: Store, *, plain: bool = False) -> int:
    written = ServiceKeyFiles(keys_folder(store.settings)).write_again(plain=plain)
    for account_id in store.accounts.known():
        written += store.accounts.keys(account_id).write_again(plain=plain)
    return written


def wrapped_files(accounts: list[str], settings: Settings) -> list[Path]:
    """List the key files that are encrypted."""
    return [path for path in key_files(accounts, settings) if _begins(path, is_wrapped)]


def key_files(accounts: list[str], settings: Settings) -> list[Path]:
    """List the files that hold keys."""
    folders = [
        settings.data / "keys"
        if account == settings.account
        else settings.data / "accounts" / account / "keys"
        for account in accounts
    ]
    service = [path for path in (settings.data / "keys").glob("service.key*") if path.is_file()]
    known = {"aliases.json", "destroyed.json", "wrapping.json"}
    own = [path for folder in folders for path in sorted(folder.glob("*.json")) if path.name not in known]
    return sorted(service) + own


def describe_key_files(accounts: list[str], settings: Settings) -> str:
    """Say how the key files lie, and who can read them. Raises SetupError when some are not encrypted yet."""
    record = wrapping_of(settings).record()
    files, wrapped = key_files(accounts, settings), wrapped_files(accounts, settings)
    if record is None:
        return (
            f"{len(files)} files, not encrypted: whoever reads {settings.data / 'keys'} has the keys "
            "(`sonant key wrap` encrypts them)"
        )
    plain = sorted(set(files) - set(wrapped))
    if plain:
        raise SetupError(
            f"{len(plain)} of {len(files)} key files are not encrypted, such as {plain[0]}: run "
            f"`sonant key wrap --by {record.by}` again"
        )
    where = {
        "passphrase": f"a passphrase (scrypt, N {record.cost})",
        "credential": f"the systemd credential {settings.key_wrapping.credential}; it is bound to a TPM only "
        f"if systemd-creds made it so (this machine has {'a' if TPM_DEVICE.exists() else 'no'} TPM)",
    }
    return f"{len(files)} files, encrypted under {where[record.by]}"


def _begins(path: Path, test: Callable[[bytes], bool]) -> bool:
    found = PrivateFolder(path.parent).read(path.name, 1 << 20)
    return found is not None and test(found[1])
