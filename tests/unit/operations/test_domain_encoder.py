"""The voice model of new domains is the one that the setting `encoder` names."""

from __future__ import annotations

from dataclasses import replace

import pytest
from operations_testbed import Operations, operations_on

from sonant.settings import Settings
from sonant.storage.repositories import domains
from sonant.voice.models.packaged import encoder_id


def model_of(testbed: Operations, domain_id: str) -> str | None:
    with testbed.store.database.read() as connection:
        found = domains.find_by_id(connection, domain_id)
    assert found is not None
    return found.model_id


@pytest.fixture
def testbed(tmp_path):
    opened = operations_on(tmp_path / "data")
    yield opened
    opened.close()


def test_domain_has_campplus_unless_the_setting_says_otherwise(testbed):
    testbed.settings = replace(testbed.settings, encoder=Settings().encoder)
    testbed.restart()
    assert model_of(testbed, testbed.new_domain()) == encoder_id("campplus")


def test_changed_setting_holds_for_new_domains_only(testbed):
    earlier = testbed.new_domain()
    testbed.settings = replace(testbed.settings, encoder="campplus")
    testbed.restart()

    assert model_of(testbed, testbed.new_domain(Name="later")) == encoder_id("campplus")
    assert model_of(testbed, earlier) is None
