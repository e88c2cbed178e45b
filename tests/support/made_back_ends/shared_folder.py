"""An object store: local buckets that several hosts reach at the place that `s3.endpoint` names."""

from __future__ import annotations

from collections.abc import Mapping

from sonant.settings import Settings
from sonant.storage.objects.stores.local import LocalBackEnd


class SharedFolder(LocalBackEnd):
    @staticmethod
    def location(settings: Settings) -> Mapping[str, object]:
        return {"folder": settings.s3.endpoint}


BACK_END = SharedFolder
