"""Hold fraudsters' voices in memory, for as long as a job or a call needs them; never on disk in the clear.

`Domain.fraudsters_version`, read in every transaction, shows whether anything has changed. Only then deleted
fraudsters are removed and new ones opened. All voices are in one template space of the domain; what is
compared with them is brought there. When a renewal begins, all voices are opened again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from sonant.errors import SealBroken
from sonant.jobs.faults import JobFault
from sonant.storage.crypto.template_spaces import TemplateSpaces
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import fraud_voices, templates
from sonant.voice.sample import VoiceSample
from sonant.voice.search import Gallery, Match


class FraudsterGallery:
    """The voices of a domain's fraudsters, or of those on one list. Not for several threads."""

    def __init__(self, domain_id: str, watchlist_id: str | None) -> None:
        self.domain_id, self.watchlist_id = domain_id, watchlist_id
        self._version: int | None = None
        self._spaces: TemplateSpaces | None = None
        self._galleries: dict[str, Gallery] = {}  # by voice model: those of two makers cannot be compared

    def refresh(self, connection: Connection, vault: Vault, version: int) -> None:
        """Bring the gallery to the store's `version`, read in this transaction.

        Raises JobFault when a voice cannot be opened: without it a fraudster would be missed.
        """
        if version == self._version:
            return
        self._version = None  # a fault half-way leaves no valid version
        spaces = templates.open_spaces(connection, vault.templates)
        if self._spaces is None or self._spaces.name != spaces.name:
            self._spaces, self._galleries = spaces, {}
        wanted = fraud_voices.ids(connection, self.domain_id, self.watchlist_id)
        present = set(wanted)
        for gallery in self._galleries.values():
            for key in set(gallery.keys) - present:
                gallery.remove(key)
        missing = [key for key in wanted if not any(key in gallery for gallery in self._galleries.values())]
        voices = fraud_voices.load(connection, vault, spaces, missing)
        try:
            for model_id, group in groupby(voices, key=lambda voice: voice[1].model_id):
                self._extend(model_id, {fraudster_id: sample.vector for fraudster_id, sample in group})
        except SealBroken:
            raise JobFault(
                500, "a fraudster's voiceprint is damaged; restore the database from a backup"
            ) from None
        self._version = version

    def add(self, fraudster_id: str, sample: VoiceSample, version: int) -> None:
        """Add a fraudster whom this process has registered, committed as `version`; after a `refresh`."""
        self._extend(sample.model_id, {fraudster_id: self._protected(sample).vector})
        self._version = version

    def size(self, model_id: str) -> int:
        """Count the voices of a model."""
        return len(self._gallery(model_id))

    def nearest(self, samples: Sequence[VoiceSample]) -> list[Match | None]:
        """Find the most similar voice for each sample; None where there is none of its model.

        Raises TemplateMismatch for a sample of another domain.
        """
        found: list[Match | None] = [None] * len(samples)
        for model_id in {sample.model_id for sample in samples}:
            if not len(self._gallery(model_id)):
                continue
            indices = [index for index, sample in enumerate(samples) if sample.model_id == model_id]
            queries = np.stack([self._protected(samples[index]).vector for index in indices])
            matches = self._gallery(model_id).best(queries)
            for index, match in zip(indices, matches, strict=True):
                found[index] = match
        return found

    def _protected(self, sample: VoiceSample) -> VoiceSample:
        return sample if self._spaces is None else self._spaces.protect(sample)

    def _gallery(self, model_id: str) -> Gallery:
        return self._galleries.get(model_id) or Gallery()

    def _extend(self, model_id: str, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        gallery = self._galleries.get(model_id)
        if not gallery:
            self._galleries[model_id] = Gallery(list(vectors), np.stack(list(vectors.values())))
            return
        for key, vector in vectors.items():
            gallery.add(key, vector)
