"""Rotation of a key: data keys are wrapped again, sealed data stays, old material can be destroyed."""

from __future__ import annotations

import numpy as np
import pytest
from batch_values import entry
from click.testing import CliRunner

from sonant.assembly.installation import DEFAULT_ALIAS
from sonant.cli import key_rotation
from sonant.cli.key import key as key_commands
from sonant.errors import SealBroken, SetupError
from sonant.storage.crypto.vault import encryption_context
from sonant.storage.keys.stores.local import LocalKeyStore
from sonant.storage.repositories import domains


@pytest.fixture
def rotating(own_testbed):
    """A testbed with somebody enrolled, and a rotation of its key as the command does it."""

    def rotate(*, forget=False):
        step = key_rotation.forget_earlier if forget else key_rotation.rotate
        step(own_testbed.store, own_testbed.store.keys, own_testbed.settings.account, DEFAULT_ALIAS)

    domain_id = own_testbed.new_domain()
    own_testbed.enroll(domain_id, [entry("r1", "ada", "s3://calls/english.wav")])
    return own_testbed, domain_id, rotate


def rows(testbed, domain_id):
    with testbed.store.database.read() as connection:
        domain = domains.find_by_id(connection, domain_id)
        sealed = (
            testbed.store.database,
            connection.exec_driver_sql("SELECT vector_sealed FROM voiceprints").scalars().all(),
        )
    return domain, sealed[1]


def test_a_rotation_wraps_anew_and_seals_nothing_again(rotating):
    testbed, domain_id, rotate = rotating
    before, sealed = rows(testbed, domain_id)
    voices = testbed.voiceprints(domain_id)
    rotate()
    after, still = rows(testbed, domain_id)
    assert after.data_key_wrapped != before.data_key_wrapped
    assert still == sealed
    context = encryption_context(after.arn)
    assert testbed.store.keys.is_current(after.data_key_wrapped, context)
    assert not testbed.store.keys.is_current(before.data_key_wrapped, context)
    assert testbed.store.keys.decrypt(before.data_key_wrapped, context) == testbed.store.keys.decrypt(
        after.data_key_wrapped, context
    )
    for name, vector in testbed.voiceprints(domain_id).items():
        assert np.array_equal(vector, voices[name])
    assert testbed.enroll(domain_id, [entry("r2", "bob", "s3://calls/french.wav")]).status == "COMPLETED"


def test_forgotten_material_opens_nothing_any_more(rotating):
    testbed, domain_id, rotate = rotating
    before, _ = rows(testbed, domain_id)
    for _ in range(3):
        rotate()
    rotate(forget=True)
    with pytest.raises(SealBroken):
        testbed.store.keys.decrypt(before.data_key_wrapped, encryption_context(before.arn))
    assert set(testbed.voiceprints(domain_id)) == {"ada"}
    path = next((testbed.settings.data / "keys").glob("*-*.json"))
    assert b"earlier" not in path.read_bytes()


def test_a_rotation_that_was_killed_half_way_is_finished_later(rotating):
    testbed, domain_id, rotate = rotating
    testbed.store.keys.rotate(DEFAULT_ALIAS)  # killed before any domain was wrapped anew
    assert set(testbed.voiceprints(domain_id)) == {"ada"}
    rotate(forget=True)
    assert set(testbed.voiceprints(domain_id)) == {"ada"}


def test_objects_that_were_sealed_before_hold_earlier_material(rotating):
    testbed, domain_id, rotate = rotating
    testbed.put("s3://results/deep/in/sealed", b"of before", key=DEFAULT_ALIAS)
    rotate()
    assert testbed.get("s3://results/deep/in/sealed") == b"of before"
    with pytest.raises(SetupError, match="1 objects in buckets were sealed before"):
        rotate(forget=True)
    testbed.put("s3://results/deep/in/sealed", b"of after", key=DEFAULT_ALIAS)
    rotate(forget=True)
    assert testbed.get("s3://results/deep/in/sealed") == b"of after"
    assert set(testbed.voiceprints(domain_id)) == {"ada"}


def test_another_process_sees_the_new_material_at_once(rotating):
    testbed, domain_id, _ = rotating
    rotate = ["rotate", DEFAULT_ALIAS, "--data", str(testbed.settings.data)]
    rotated = CliRunner().invoke(key_commands, rotate, catch_exceptions=False)
    forgotten = CliRunner().invoke(
        key_commands, [*rotate, "--forget-earlier", "--yes"], catch_exceptions=False
    )
    assert set(testbed.voiceprints(domain_id)) == {"ada"}
    assert "the data keys of 1 domains" in rotated.output and "1 rotations destroyed" in forgotten.output


def test_a_disabled_key_is_not_rotated(rotating):
    testbed, _, rotate = rotating
    testbed.store.keys.disable(DEFAULT_ALIAS)
    with pytest.raises(Exception, match="is disabled"):
        rotate()


def test_a_damaged_earlier_material_is_found_out(tmp_path, clock):
    keys = LocalKeyStore(tmp_path / "keys", region="us-east-1", account="0" * 12, clock=clock)
    key = keys.rotate(keys.create(alias="alias/a").key_id)
    path = tmp_path / "keys" / f"{key.key_id}.json"
    text = path.read_text()
    place = text.rindex('"check": "') + len('"check": "')
    path.write_text(text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :])
    with pytest.raises(SetupError, match="is damaged"):
        keys.describe("alias/a")
