"""The file of one local key: JSON, with a check value that tells a damaged file from a wrong one."""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import get_args

from sonant.storage.keys.store import KeyState

MAX_BYTES = 64 * 1024
KEY_BYTES = 32
#: Files without earlier material are of version 1, which older releases read.
_VERSION, _ROTATED, _IN_TOKEN = 1, 2, 3
MOST_EARLIER = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFile:
    """One key with its material; lives for the length of a read or a write."""

    key_id: str
    state: KeyState
    description: str
    created_at: datetime
    deletion_date: datetime | None
    material: bytes = field(repr=False)
    """32 bytes; of a key in a token, what its object there is called."""
    earlier: tuple[bytes, ...] = field(default=(), repr=False)
    """What rotations have replaced, the latest first: it opens what was wrapped before, and wraps no more."""
    in_token: bool = False


def dump(key: KeyFile) -> bytes:
    name = _name(key.in_token)
    return json.dumps(
        {
            "version": _IN_TOKEN if key.in_token else _ROTATED if key.earlier else _VERSION,
            "key_id": key.key_id,
            "state": key.state,
            "description": key.description,
            "created_at": key.created_at.isoformat(),
            "deletion_date": key.deletion_date.isoformat() if key.deletion_date else None,
            **_shown(key.material, name),
            **({"earlier": [_shown(material, name) for material in key.earlier]} if key.earlier else {}),
        },
        indent=1,
    ).encode()


def parse(content: bytes, key_id: str) -> KeyFile:
    """Raises ValueError with what is wrong, never with what was read."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(data, dict) or data.get("version") not in (_VERSION, _ROTATED, _IN_TOKEN):
        raise ValueError(f"not a key file of version {_VERSION} to {_IN_TOKEN}")
    if data.get("key_id") != key_id:
        raise ValueError("it holds another key than its name says")
    in_token = data["version"] == _IN_TOKEN
    state: KeyState | None = next((s for s in get_args(KeyState) if s == data.get("state")), None)
    description = data.get("description")
    if state is None or not isinstance(description, str):
        raise ValueError("unknown state or no description")
    try:
        created_at = datetime.fromisoformat(data["created_at"])
        deletion_date = datetime.fromisoformat(data["deletion_date"]) if data["deletion_date"] else None
        name = _name(in_token)
        material = _material(data, name)
        earlier = tuple(_material(one, name) for one in data.get("earlier", ()))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ValueError("a date or the material cannot be read") from None
    if created_at.tzinfo is None or (deletion_date is not None and deletion_date.tzinfo is None):
        raise ValueError("a date without time zone")
    if (state == "PendingDeletion") != (deletion_date is not None):
        raise ValueError("state and deletion date contradict each other")
    if material is None or None in earlier or len(earlier) > MOST_EARLIER:
        raise ValueError("the material does not match its check value")
    return KeyFile(
        key_id=key_id,
        state=state,
        description=description,
        created_at=created_at,
        deletion_date=deletion_date,
        material=material,
        earlier=tuple(one for one in earlier if one is not None),
        in_token=in_token,
    )


def _name(in_token: bool) -> str:
    return "token_object" if in_token else "material"


def _shown(material: bytes, name: str) -> dict[str, str]:
    return {name: base64.b64encode(material).decode(), "check": _check(material)}


def _material(shown: dict[str, object], name: str) -> bytes | None:
    """None when it is not what its check value belongs to. Raises what a value of another form does."""
    material = base64.b64decode(str(shown[name]), validate=True)
    right = hmac.compare_digest(_check(material), str(shown.get("check")))
    return material if right and len(material) == KEY_BYTES else None


def _check(material: bytes) -> str:
    """64 bits that follow from the material and tell nothing of it."""
    return hmac.digest(material, b"sonant key check value", "sha256")[:8].hex()
