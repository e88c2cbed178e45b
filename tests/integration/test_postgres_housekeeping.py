"""Several housekeepers on PostgreSQL change speakers during calls, without conflicts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from kept_testbed import START, enroll

from sonant.retention.housekeeping import Housekeeper
from sonant.storage.repositories import speakers

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def keepers(kept, clock):
    return [
        Housekeeper(database=kept.store.database, keys_of=kept.store.accounts.keys, clock=clock)
        for _ in range(2)
    ]


@pytest.mark.slow
def test_who_opts_out_while_speakers_expire_stays_opted_out(kept, clock):
    domain_id = kept.new_domain()
    customers = [f"customer-{n}" for n in range(60)]
    enroll(kept, domain_id, *customers)
    clock.now = START.replace(year=2030)
    with ThreadPoolExecutor(6) as pool:
        work = [pool.submit(keeper.expire_speakers) for keeper in keepers(kept, clock)]
        work += [
            pool.submit(kept.call, "ImportOptOuts", DomainId=domain_id, SpeakerIds=customers[start::4])
            for start in range(4)
        ]
        for one in work:
            one.result()
    found = kept.speakers(domain_id)  # opens every customer's id: no row is sealed under another's key
    assert {customer: speaker.status for customer, speaker in found.items()} == dict.fromkeys(
        customers, "OPTED_OUT"
    )


def test_a_key_change_and_an_erasure_are_done_once(kept, clock):
    changed, gone = kept.new_domain(), kept.new_domain()
    enroll(kept, changed, "customer-1")
    new = kept.store.keys.create(alias="alias/new")
    kept.call(
        "UpdateDomain",
        DomainId=changed,
        Name="other",
        ServerSideEncryptionConfiguration={"KmsKeyId": new.arn},
    )
    kept.call("DeleteDomain", DomainId=gone)
    clock.now = START.replace(month=START.month + 2)
    with ThreadPoolExecutor(4) as pool:
        changes = [pool.submit(keeper.change_keys) for keeper in keepers(kept, clock)]
        erasures = [pool.submit(keeper.erase_domains) for keeper in keepers(kept, clock)]
        assert sum(one.result() for one in changes) == 1
        assert sum(one.result() for one in erasures) == 1
    assert kept.speakers(changed)["customer-1"].status == "ENROLLED"


def test_speaker_count_is_right_after_concurrent_changes(kept):
    domain_id = kept.new_domain()

    def come_and_go(part):
        for n in range(8):
            customer = f"customer-{part}-{n}"
            kept.call("OptOutSpeaker", DomainId=domain_id, SpeakerId=customer)
            if n % 2:
                kept.call("DeleteSpeaker", DomainId=domain_id, SpeakerId=customer)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(come_and_go, range(4)))
    with kept.store.database.read() as connection:
        assert speakers.count(connection, domain_id) == 16
    assert len(kept.speakers(domain_id)) == 16
