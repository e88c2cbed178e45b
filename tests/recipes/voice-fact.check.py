"""The new measure is taken, stored with a voiceprint and read again."""

from tempfile import TemporaryDirectory

import numpy as np
from sqlalchemy import inspect

from sonant.storage.crypto.template_spaces import temporary_spaces
from sonant.storage.crypto.vault import SpeakerSeal, TemplateKeys
from sonant.storage.database.engine import Database
from sonant.storage.database.schema import voiceprints
from sonant.storage.repositories.voice_samples import open_sample, sample_columns, sample_values
from sonant.voice.quality import measure
from sonant.voice.sample import VoiceSample

rng = np.random.default_rng(1)
speech = (0.1 * rng.standard_normal(80_000)).astype(np.float32)
quality = measure(
    speech,
    clipped=np.zeros(80_000, np.bool_),
    power=np.full(312, 0.01),
    probability=np.full(312, 0.9, np.float32),
    duration_s=10.0,
)
assert quality.peak_dbfs is not None
assert abs(quality.peak_dbfs - -7.0) < 1.5

seal, spaces = SpeakerSeal("id#speaker", bytes(32), TemplateKeys("domain", bytes(32))), temporary_spaces()
sample = VoiceSample(model_id="model", vector=np.ones(4, np.float32) / 2, quality=quality)
stored = sample_values(seal, spaces, sample, voiceprints)
names = [column.name for column in sample_columns(voiceprints)]
found = open_sample(seal, spaces, {name: stored.get(name) for name in names})
assert found.quality.peak_dbfs == quality.peak_dbfs

with TemporaryDirectory() as folder:
    database = Database(f"sqlite:///{folder}/sonant.db")
    database.migrate()
    with database.read() as connection:
        columns = {column["name"] for column in inspect(connection).get_columns("voiceprints")}
    database.close()
assert "peak_dbfs" in columns
