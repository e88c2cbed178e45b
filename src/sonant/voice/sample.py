"""One value for a voice: what a voice model makes of some speech, and how good that speech was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.errors import ModelMismatch, TemplateMismatch
from sonant.voice.quality import Quality, comparison_quality


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VoiceSample:
    """An embedding with its maker and the measures of the audio it was made from."""

    model_id: str
    """The voice model; samples of two models are never compared."""
    vector: NDArray[np.float32]
    """Shape [d], unit length."""
    quality: Quality
    space: str = ""
    """The space of the vector: empty for the voice model's own, else the name of a domain's protected one.
    Vectors of two spaces are never compared."""

    @classmethod
    def from_bytes(cls, model_id: str, data: bytes, quality: Quality) -> VoiceSample:
        """Build a sample from its stored vector (see `to_bytes`)."""
        return cls(model_id=model_id, vector=vector_from_bytes(data), quality=quality)

    def to_bytes(self) -> bytes:
        """Encode the vector as it is stored, sealed and sent: little-endian float32."""
        return self.vector.astype("<f4").tobytes()

    def similarity(self, other: VoiceSample) -> float:
        """Compute the cosine of two samples, -1..1. Raises ModelMismatch for samples of two models,
        TemplateMismatch for samples of two spaces."""
        if self.model_id != other.model_id:
            raise ModelMismatch(self.model_id, other.model_id)
        if self.space != other.space:
            raise TemplateMismatch(self.space, other.space)
        return float(np.dot(self.vector, other.vector))

    def comparison_quality(self, reference: VoiceSample) -> Quality:
        """Combine the qualities of this probe and a reference; see `quality.comparison_quality`."""
        return comparison_quality(self.quality, reference.quality)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VoiceSample):
            return NotImplemented
        return (
            self.model_id == other.model_id
            and self.space == other.space
            and self.quality == other.quality
            and np.array_equal(self.vector, other.vector)
        )

    def __hash__(self) -> int:
        return hash((self.model_id, self.space, self.to_bytes(), self.quality))


def vector_from_bytes(data: bytes) -> NDArray[np.float32]:
    """Decode a stored vector (little-endian float32), shape [d]."""
    return np.frombuffer(data, "<f4")
