"""How alike two voices are."""

from __future__ import annotations

import numpy as np

from sonant.errors import ModelMismatch
from sonant.voice.models.embedding import Embedding


def similarity(a: Embedding, b: Embedding) -> float:
    """Cosine of two embeddings, -1..1; higher is more alike. Raises ModelMismatch for two makers."""
    if a.model_id != b.model_id:
        raise ModelMismatch(a.model_id, b.model_id)
    return float(np.dot(a.vector, b.vector))
