"""Protect embeddings by the template spaces of a domain (ISO/IEC 24745: cancellable, renewable, unlinkable).

Everything that a domain stores of a voice as an embedding is transformed by an orthogonal matrix that the key
of the domain's present space determines (`voice.templates`); what is compared with it is transformed in the
same way. Spaces are numbered. 0 is the voice model's own, in which rows of releases without protection are.

    sample of a voice model --protect--> sample of the domain --original--> for an export only
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sonant.errors import TemplateMismatch
from sonant.storage.crypto.vault import KEY_BYTES, TemplateKeys
from sonant.storage.keys.expiring import ExpiringItems
from sonant.voice.quality import Quality
from sonant.voice.sample import VoiceSample
from sonant.voice.templates import orthogonal_matrix, rotate, rotate_all

Matrix = NDArray[np.float64]

UNPROTECTED = 0
"""The version of rows whose vectors are in the voice model's own space."""

#: Making a matrix takes milliseconds (`bench/linkability.py` measures it), so that they stay in memory for so
#: many seconds. They are found by a hash of the key: without the domain's data key none is used.
MEMORY_S = 60.0
#: Half a megabyte each, for 256 dimensions.
MAX_IN_MEMORY = 32
_matrices: ExpiringItems[Matrix] = ExpiringItems(MEMORY_S, MAX_IN_MEMORY)


class TemplateSpaces:
    """The opened template spaces of one domain, for one transaction or what is held in memory of it."""

    __slots__ = ("_keys", "_owner", "present")

    def __init__(self, owner: str, present: int, keys: Mapping[int, bytes]) -> None:
        """`owner` names the domain; `keys` are by version, of all spaces in which its rows may be."""
        self._owner, self.present, self._keys = owner, present, dict(keys)

    @property
    def name(self) -> str:
        """The name of the present space, which all protected samples carry."""
        return self._name(self.present)

    def protect(self, sample: VoiceSample) -> VoiceSample:
        """Bring a sample of the voice model's space, or of an earlier one of this domain, to the present one.

        Raises TemplateMismatch for a sample of another domain, or of a space that is no more.
        """
        if sample.space == self.name:
            return sample
        return self._move(sample, self._version_of(sample), self.present, self.name)

    def protect_all(self, samples: Sequence[VoiceSample]) -> list[VoiceSample]:
        """Bring samples to the present space as `protect` does: new ones in one product for each voice model.

        Raises as `protect`.
        """
        found = list(samples)
        groups: dict[tuple[str, int], list[int]] = {}
        for at, sample in enumerate(samples):
            if sample.space or self.present == UNPROTECTED or not len(sample.vector):
                found[at] = self.protect(sample)
            else:
                groups.setdefault((sample.model_id, len(sample.vector)), []).append(at)
        for (model_id, size), places in groups.items():
            vectors = np.stack([samples[at].vector for at in places])
            turned = rotate_all(self._matrix(self.present, model_id, size), vectors)
            for at, vector in zip(places, turned, strict=True):
                found[at] = replace(samples[at], vector=vector, space=self.name)
        return found

    def original(self, sample: VoiceSample) -> VoiceSample:
        """Bring a sample of this domain back to the voice model's space. Raises as `protect`."""
        return self._move(sample, self._version_of(sample), UNPROTECTED, "")

    def sample_of_row(self, model_id: str, data: bytes, version: int, quality: Quality) -> VoiceSample:
        """Build a sample in the present space from a vector that is stored in that of `version`.

        Raises TemplateMismatch when the key of that space is no more.
        """
        stored = VoiceSample.from_bytes(model_id, data, quality)
        return self.protect(replace(stored, space=self._name(version)))

    def _move(self, sample: VoiceSample, old: int, new: int, name: str) -> VoiceSample:
        vector, size = sample.vector, len(sample.vector)
        if size and old != UNPROTECTED:
            vector = rotate(self._matrix(old, sample.model_id, size).T, vector)
        if size and new != UNPROTECTED:
            vector = rotate(self._matrix(new, sample.model_id, size), vector)
        return replace(sample, vector=vector, space=name)

    def _version_of(self, sample: VoiceSample) -> int:
        if not sample.space:
            return UNPROTECTED
        owner, _, version = sample.space.rpartition("/")
        if owner != self._owner or not version.isdigit() or not self._knows(int(version)):
            raise TemplateMismatch(sample.space, self.name)
        return int(version)

    def _knows(self, version: int) -> bool:
        return version == UNPROTECTED or version in self._keys

    def _matrix(self, version: int, model_id: str, dimensions: int) -> Matrix:
        key = self._keys[version]
        place = hashlib.sha256(f"{model_id}\n{dimensions}\n".encode() + key).digest()
        found = _matrices.get(place)
        if found is None:
            found = orthogonal_matrix(key, model_id, dimensions)
            _matrices.put(place, found, time.monotonic())
        return found

    def _name(self, version: int) -> str:
        return f"{self._owner}/{version}"


def temporary_spaces() -> TemplateSpaces:
    """Return a space that is gone with the process."""
    return TemplateSpaces("temporary", 1, {1: secrets.token_bytes(KEY_BYTES)})


def spaces_of_job(keys: TemplateKeys, job_id: str) -> TemplateSpaces:
    """Return the space of the voices of one dry run: a space of its own, which is gone with the job."""
    return TemplateSpaces(f"{keys.domain_id}/job/{job_id}", 1, {1: keys.of_job(job_id)})
