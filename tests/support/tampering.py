"""What somebody altered: data of any content that differs from the original for certain."""

from __future__ import annotations


def altered(data: bytes, at: int = -1) -> bytes:
    """Invert the bits of one byte: unlike writing a fixed one, this is never what was there before."""
    changed = bytearray(data)
    changed[at] ^= 0xFF
    return bytes(changed)


def altered_text(text: str, at: int = -1) -> str:
    """Replace one character by another letter."""
    characters = list(text)
    characters[at] = "B" if characters[at] == "A" else "A"
    return "".join(characters)
