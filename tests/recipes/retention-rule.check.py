"""A speaker who was enrolled four years ago keeps the voiceprint, and expires after five."""

from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from operations_testbed import operations_on

from sonant.retention.housekeeping import Housekeeper
from sonant.storage.opening import vault_of
from sonant.storage.repositories import domains, speakers
from sonant.voice.quality import Quality
from sonant.voice.sample import VoiceSample

VOICE = VoiceSample(model_id="model", vector=np.ones(4, np.float32) / 2, quality=Quality(net_speech_s=30.0))

with TemporaryDirectory() as folder:
    operations = operations_on(Path(folder))
    database, keys_of, clock = operations.store.database, operations.store.accounts.keys, operations.clock
    domain_id = operations.new_domain()
    with database.write() as connection:
        domain = domains.find_by_id(connection, domain_id)
        assert domain is not None
        seal = speakers.add(
            connection,
            vault_of(keys_of, domain),
            domain_id=domain_id,
            speaker_id="id#" + "s" * 22,
            customer_id="ada-4711",
            status="PENDING",
            now=clock(),
        )
        speakers.enroll(connection, seal, "id#" + "s" * 22, VOICE, clock())
    housekeeper = Housekeeper(database=database, keys_of=keys_of, clock=clock)

    clock.now += timedelta(days=4 * 366)
    assert housekeeper.expire_speakers() == 0
    clock.now += timedelta(days=366)
    assert housekeeper.expire_speakers() == 1
    speaker = operations.call("DescribeSpeaker", DomainId=domain_id, SpeakerId="ada-4711")["Speaker"]
    assert speaker["Status"] == "EXPIRED", speaker
    operations.close()
