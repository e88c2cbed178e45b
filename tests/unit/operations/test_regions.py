"""Regions of one service: what is made in one is not there in another."""

import pytest
from operations_house import ACCOUNT, OTHER_ACCOUNT, REGION, operations_on

from sonant.errors import AccessDenied, KeyNotFound, ResourceNotFound, ServiceQuotaExceeded

LONDON = "eu-west-2"
NEW = {"Name": "tests", "ServerSideEncryptionConfiguration": {"KmsKeyId": "alias/sonant"}}


def new_domain(house, region, **more):
    return house.call("CreateDomain", region=region, **{**NEW, **more})["Domain"]


def test_arns_of_domain_and_key_are_of_the_callers_region(house):
    domain = new_domain(house, LONDON)
    assert domain["Arn"] == f"arn:aws:voiceid:{LONDON}:{ACCOUNT}:domain/{domain['DomainId']}"
    key_arn = domain["ServerSideEncryptionConfiguration"]["KmsKeyId"]
    assert key_arn.startswith(f"arn:aws:kms:{LONDON}:{ACCOUNT}:key/")


def test_each_region_lists_its_own_domains(house):
    made = {region: new_domain(house, region)["DomainId"] for region in (REGION, LONDON)}
    for region, domain_id in made.items():
        listed = house.call("ListDomains", region=region)["DomainSummaries"]
        assert [domain["DomainId"] for domain in listed] == [domain_id]


def test_a_domain_that_was_read_a_moment_ago_is_not_there_in_another_region(house):
    """What is remembered of the database while it stands still is remembered by Region."""
    domain_id = new_domain(house, REGION)["DomainId"]
    for _ in range(2):
        house.call("DescribeDomain", DomainId=domain_id)
        with pytest.raises(ResourceNotFound):
            house.call("DescribeDomain", region=LONDON, DomainId=domain_id)


def test_an_arn_of_the_other_region_finds_nothing_in_either(house):
    arn = new_domain(house, REGION)["Arn"]
    for region, named in (
        (LONDON, arn),
        (LONDON, arn.replace(REGION, LONDON)),
        (REGION, arn.replace(REGION, LONDON)),
    ):
        with pytest.raises(ResourceNotFound):
            house.call("ListTagsForResource", region=region, ResourceArn=named)
    assert house.call("ListTagsForResource", ResourceArn=arn) == {"Tags": []}


def test_one_key_has_an_arn_in_each_region_and_none_in_another(house):
    ours = new_domain(house, REGION)["ServerSideEncryptionConfiguration"]["KmsKeyId"]
    theirs = new_domain(house, LONDON)["ServerSideEncryptionConfiguration"]["KmsKeyId"]
    assert theirs == ours.replace(REGION, LONDON)
    for region, own, other in ((REGION, ours, theirs), (LONDON, theirs, ours)):
        keys = house.store.accounts.keys(ACCOUNT, region)
        assert keys.describe(own).arn == keys.describe("alias/sonant").arn == own
        with pytest.raises(KeyNotFound):
            keys.describe(other)


def test_a_key_that_is_disabled_closes_the_domains_of_all_regions(house):
    made = {region: new_domain(house, region)["DomainId"] for region in (REGION, LONDON)}
    house.store.accounts.keys(ACCOUNT).disable("alias/sonant")
    for region, domain_id in made.items():
        with pytest.raises(AccessDenied):
            house.call("DescribeDomain", region=region, DomainId=domain_id)


def test_the_same_client_token_makes_a_domain_in_each_region(house):
    one, other = (new_domain(house, region, ClientToken="token")["DomainId"] for region in (REGION, LONDON))
    assert one != other
    assert new_domain(house, LONDON, ClientToken="token")["DomainId"] == other


def test_the_quota_of_domains_counts_each_region_and_account_alone(tmp_path):
    house = operations_on(tmp_path / "data", domains_per_account=1)
    house.new_domain()
    house.new_domain(account=OTHER_ACCOUNT)
    suspended = new_domain(house, LONDON)["DomainId"]
    for region in (REGION, LONDON):
        with pytest.raises(ServiceQuotaExceeded):
            new_domain(house, region)
    house.call("DeleteDomain", region=LONDON, DomainId=suspended)
    new_domain(house, LONDON)
    with pytest.raises(ServiceQuotaExceeded):
        house.call("RestoreDomain", region=LONDON, DomainId=suspended)
    house.close()
