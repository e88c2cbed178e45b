"""Regions of one service: what is made in one is not there in another."""

import pytest
from operations_testbed import ACCOUNT, OTHER_ACCOUNT, REGION, operations_on

from sonant.errors import AccessDenied, KeyNotFound, ResourceNotFound, ServiceQuotaExceeded

LONDON = "eu-west-2"
NEW = {"Name": "tests", "ServerSideEncryptionConfiguration": {"KmsKeyId": "alias/sonant"}}


def new_domain(testbed, region, **more):
    return testbed.call("CreateDomain", region=region, **{**NEW, **more})["Domain"]


def test_arns_of_domain_and_key_are_of_the_callers_region(testbed):
    domain = new_domain(testbed, LONDON)
    assert domain["Arn"] == f"arn:aws:voiceid:{LONDON}:{ACCOUNT}:domain/{domain['DomainId']}"
    key_arn = domain["ServerSideEncryptionConfiguration"]["KmsKeyId"]
    assert key_arn.startswith(f"arn:aws:kms:{LONDON}:{ACCOUNT}:key/")


def test_each_region_lists_its_own_domains(testbed):
    made = {region: new_domain(testbed, region)["DomainId"] for region in (REGION, LONDON)}
    for region, domain_id in made.items():
        listed = testbed.call("ListDomains", region=region)["DomainSummaries"]
        assert [domain["DomainId"] for domain in listed] == [domain_id]


def test_domain_just_read_is_absent_in_another_region(testbed):
    """What is remembered of the database while it stands still is remembered by Region."""
    domain_id = new_domain(testbed, REGION)["DomainId"]
    for _ in range(2):
        testbed.call("DescribeDomain", DomainId=domain_id)
        with pytest.raises(ResourceNotFound):
            testbed.call("DescribeDomain", region=LONDON, DomainId=domain_id)


def test_an_arn_of_the_other_region_finds_nothing_in_either(testbed):
    arn = new_domain(testbed, REGION)["Arn"]
    for region, named in (
        (LONDON, arn),
        (LONDON, arn.replace(REGION, LONDON)),
        (REGION, arn.replace(REGION, LONDON)),
    ):
        with pytest.raises(ResourceNotFound):
            testbed.call("ListTagsForResource", region=region, ResourceArn=named)
    assert testbed.call("ListTagsForResource", ResourceArn=arn) == {"Tags": []}


def test_one_key_has_an_arn_in_each_region_and_none_in_another(testbed):
    ours = new_domain(testbed, REGION)["ServerSideEncryptionConfiguration"]["KmsKeyId"]
    theirs = new_domain(testbed, LONDON)["ServerSideEncryptionConfiguration"]["KmsKeyId"]
    assert theirs == ours.replace(REGION, LONDON)
    for region, own, other in ((REGION, ours, theirs), (LONDON, theirs, ours)):
        keys = testbed.store.accounts.keys(ACCOUNT, region)
        assert keys.describe(own).arn == keys.describe("alias/sonant").arn == own
        with pytest.raises(KeyNotFound):
            keys.describe(other)


def test_a_key_that_is_disabled_closes_the_domains_of_all_regions(testbed):
    made = {region: new_domain(testbed, region)["DomainId"] for region in (REGION, LONDON)}
    testbed.store.accounts.keys(ACCOUNT).disable("alias/sonant")
    for region, domain_id in made.items():
        with pytest.raises(AccessDenied):
            testbed.call("DescribeDomain", region=region, DomainId=domain_id)


def test_the_same_client_token_makes_a_domain_in_each_region(testbed):
    one, other = (new_domain(testbed, region, ClientToken="token")["DomainId"] for region in (REGION, LONDON))
    assert one != other
    assert new_domain(testbed, LONDON, ClientToken="token")["DomainId"] == other


def test_the_quota_of_domains_counts_each_region_and_account_alone(tmp_path):
    testbed = operations_on(tmp_path / "data", domains_per_account=1)
    testbed.new_domain()
    testbed.new_domain(account=OTHER_ACCOUNT)
    suspended = new_domain(testbed, LONDON)["DomainId"]
    for region in (REGION, LONDON):
        with pytest.raises(ServiceQuotaExceeded):
            new_domain(testbed, region)
    testbed.call("DeleteDomain", region=LONDON, DomainId=suspended)
    new_domain(testbed, LONDON)
    with pytest.raises(ServiceQuotaExceeded):
        testbed.call("RestoreDomain", region=LONDON, DomainId=suspended)
    testbed.close()
