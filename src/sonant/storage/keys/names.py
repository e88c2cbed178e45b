"""The names of local keys: key ids, aliases and their ARNs, and the file that holds the aliases."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from sonant.errors import KeyNotFound, SetupError
from sonant.storage.private_folder import PrivateFolder, Stamp

KEY_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Of the names that AWS reserves, programs are known to ask for this one: it may be given to a key.
_VOICE_ID_ALIAS = "alias/aws/voiceid"
_ALIAS = re.compile(rf"alias/(?!aws/)[a-zA-Z0-9/_-]{{1,250}}|{_VOICE_ID_ALIAS}")
_FILE = "aliases.json"
_FILE_MAX_BYTES = 16 * 1024 * 1024


class KeyNames:
    """Reads the aliases anew whenever another process has changed them."""

    def __init__(self, folder: PrivateFolder, *, region: str, account: str) -> None:
        self._folder = folder
        self._arn_prefix = f"arn:aws:kms:{region}:{account}:"
        # One value, replaced as a whole: threads read it without a lock.
        self._known: tuple[Stamp | None, Mapping[str, str]] = (None, {})

    def arn(self, key_id: str) -> str:
        return f"{self._arn_prefix}key/{key_id}"

    def resolve(self, ref: str) -> str:
        """The key id that `ref` names; whether that key exists is another question. Raises KeyNotFound."""
        if ref.startswith("arn:"):
            kind = "alias/" if ref.startswith(self._arn_prefix + "alias/") else "key/"
            if not ref.startswith(self._arn_prefix + kind):
                raise KeyNotFound(f"key {shown(ref)} is not one of this region and account")
            name = ref.removeprefix(self._arn_prefix).removeprefix("key/")
        else:
            kind, name = "alias/" if ref.startswith("alias/") else "key/", ref
        key_id = self.aliases().get(name) if kind == "alias/" else name
        if key_id is None or not KEY_ID.fullmatch(key_id):
            raise KeyNotFound(f"key {shown(ref)} does not exist")
        return key_id

    def aliases(self) -> Mapping[str, str]:
        """Alias to key id."""
        known = self._known
        if self._folder.stamp(_FILE) != known[0]:
            known = self._known = self._read()
        return known[1]

    def write(self, aliases: Mapping[str, str]) -> None:
        """Needs the folder's lock."""
        self._folder.replace(_FILE, json.dumps(aliases, indent=1, sort_keys=True).encode())

    def _read(self) -> tuple[Stamp | None, Mapping[str, str]]:
        read = self._folder.read(_FILE, _FILE_MAX_BYTES)
        if read is None:
            return None, {}
        stamp, content = read
        try:
            aliases: dict[str, str] = json.loads(content)
            if not all(_ALIAS.fullmatch(alias) and KEY_ID.fullmatch(k) for alias, k in aliases.items()):
                raise ValueError
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise SetupError(
                f"file {self._folder.path / _FILE} is damaged: restore it from a backup, or move it away "
                "and name the keys again (`sonant key alias`)"
            ) from None
        return stamp, aliases


def check_alias(alias: str) -> None:
    """Raises SetupError when `alias` is not one that AWS KMS would accept, or that programs ask for."""
    if not _ALIAS.fullmatch(alias):
        raise SetupError(
            f"{shown(alias)} is not an alias: write alias/ and up to 250 of the characters a-z A-Z 0-9 / _ - "
            f"(alias/aws/ is reserved, but for {_VOICE_ID_ALIAS})"
        )


def shown(ref: str) -> str:
    """A name as given, safe to print: it may be anything."""
    return ascii(ref if len(ref) <= 200 else ref[:200] + "...")
