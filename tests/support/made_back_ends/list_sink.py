"""An event sink that collects documents in a list."""

from __future__ import annotations

from collections.abc import Sequence

from sonant.settings import Settings

DELIVERED: list[bytes] = []


class ListSink:
    name = "list"

    def deliver(self, documents: Sequence[bytes]) -> int:
        DELIVERED.extend(documents)
        return len(documents)

    def close(self) -> None:
        """Do nothing."""


def build(_settings: Settings) -> ListSink:
    return ListSink()


BACK_END = build
