"""The spaces of one domain: what is brought where, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from made_samples import made_sample
from voices_testbed import strangers

from sonant.errors import SealBroken, TemplateMismatch
from sonant.storage.crypto.template_spaces import TemplateSpaces, spaces_of_job, temporary_spaces
from sonant.storage.crypto.vault import TemplateKeys, Vault

ONE, TWO = bytes([1] * 32), bytes([2] * 32)
ANNA, BERT = strangers(2)
PRESENT = TemplateSpaces("domain", 2, {1: ONE, 2: TWO})


def distance(one, other):
    return float(np.abs(one - other).max())


@pytest.mark.parametrize("spaces", [PRESENT, TemplateSpaces("domain", 0, {}), temporary_spaces()])
def test_original_undoes_protect(spaces):
    sample = made_sample(ANNA)
    there = spaces.protect(sample)
    back = spaces.original(there)
    assert (there.space, back.space) == (spaces.name, "")
    assert distance(back.vector, ANNA) < 1e-6
    assert back.quality == there.quality == sample.quality


def test_sample_of_an_earlier_space_is_brought_to_the_present_one():
    earlier = TemplateSpaces("domain", 1, {1: ONE}).protect(made_sample(ANNA))
    moved, direct = PRESENT.protect(earlier), PRESENT.protect(made_sample(ANNA))
    assert distance(moved.vector, direct.vector) < 1e-6
    assert moved.similarity(PRESENT.protect(made_sample(BERT))) == pytest.approx(ANNA @ BERT, abs=1e-6)
    assert PRESENT.protect(moved) is moved


@pytest.mark.parametrize("spaces", [PRESENT, TemplateSpaces("domain", 0, {})])
def test_many_samples_are_protected_as_each_of_them(spaces):
    short = strangers(1)[0][:64]
    samples = [
        made_sample(ANNA),
        made_sample(short / np.linalg.norm(short), model_id="other"),
        spaces.protect(made_sample(BERT)),
        made_sample([]),
        made_sample(BERT, snr_db=7.0),
    ]
    together = spaces.protect_all(samples)
    for one, sample in zip(together, samples, strict=True):
        alone = spaces.protect(sample)
        assert (one.space, one.model_id, one.quality) == (alone.space, alone.model_id, alone.quality)
        assert len(one.vector) == len(alone.vector)
        assert not len(one.vector) or distance(one.vector, alone.vector) < 1e-6
        assert one.vector.dtype == alone.vector.dtype
    assert spaces.protect_all([]) == []


@pytest.mark.parametrize(
    "spaces",
    [
        TemplateSpaces("other", 1, {1: ONE}),  # another domain
        TemplateSpaces("domain", 3, {3: ONE}),  # a space that is no more
        spaces_of_job(TemplateKeys("domain", ONE), "job"),
    ],
)
@pytest.mark.parametrize("method", ["protect", "original"])
def test_sample_of_a_space_that_is_not_the_domains_is_refused(spaces, method):
    with pytest.raises(TemplateMismatch):
        getattr(PRESENT, method)(spaces.protect(made_sample(ANNA)))


def test_a_hundred_renewals_change_no_score_by_a_ten_thousandth():
    sample, probe = made_sample(ANNA), made_sample(BERT)
    for version in range(1, 101):
        keys = {one: one.to_bytes(32) for one in (version - 1, version) if one}
        sample = TemplateSpaces("domain", version, keys).protect(sample)
    last = TemplateSpaces("domain", 100, {100: (100).to_bytes(32)})
    assert sample.similarity(last.protect(probe)) == pytest.approx(ANNA @ BERT, abs=1e-5)


def test_templates_of_two_domains_are_as_alike_as_random_vectors():
    domains = [TemplateSpaces(f"domain-{n}", 1, {1: n.to_bytes(32)}) for n in range(20)]
    stored = np.stack([one.protect(made_sample(ANNA)).vector for one in domains])
    between = np.abs((stored @ stored.T)[np.triu_indices(20, 1)])
    assert between.max() < 5 / np.sqrt(len(ANNA))


def test_empty_vector_has_every_space():
    assert len(PRESENT.original(PRESENT.protect(made_sample())).vector) == 0


def test_key_opens_in_its_domain_and_version_only():
    keys = Vault("domain", ONE).templates
    key, sealed = keys.new(1)
    assert keys.open(1, sealed) == key
    assert keys.new(1)[0] != key
    for others, version in (
        (Vault("domain", ONE).templates, 2),
        (Vault("other", ONE).templates, 1),
        (Vault("domain", TWO).templates, 1),
    ):
        with pytest.raises(SealBroken):
            others.open(version, sealed)


def test_jobs_have_spaces_of_their_own():
    keys = Vault("domain", ONE).templates
    one, again, other = (spaces_of_job(keys, job_id) for job_id in ("a", "a", "b"))
    sample = made_sample(ANNA)
    assert one.protect(sample).similarity(again.protect(sample)) == pytest.approx(1.0)
    assert abs(one.protect(sample).vector @ other.protect(sample).vector) < 0.4
