"""The benchmark of unlinkability: its measures on plain cases, its attack, and the script itself."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from made_samples import made_sample
from smoke import REPOSITORY, ran, runs
from voices_testbed import like, strangers

sys.path.append(str(REPOSITORY / "bench"))

import linkability
from linkability import Cosines

#: 40 people of 16 dimensions, two recordings each.
PEOPLE = [
    [made_sample(like(voice, 0.9, seed=number + part)) for part in (0, 1000)]
    for number, voice in enumerate(strangers(40, spread=0.25))
]


def test_measures_of_templates_that_tell_everything() -> None:
    found = Cosines(mated=np.linspace(0.8, 1, 100), others=np.linspace(-0.2, 0.2, 1000))
    assert found.equal_error_rate == pytest.approx(0.0, abs=1e-3)
    assert found.linkability == pytest.approx(1.0)


def test_measures_of_templates_that_tell_nothing() -> None:
    random = np.random.default_rng(1)
    found = Cosines(mated=random.normal(size=5000), others=random.normal(size=50_000))
    assert found.equal_error_rate == pytest.approx(0.5, abs=0.02)
    assert found.linkability < 0.03


def test_same_person_is_known_within_a_domain_and_not_across_two() -> None:
    assert linkability.within(PEOPLE).equal_error_rate < 0.02
    for found in (
        linkability.across(PEOPLE, 10),
        linkability.across(PEOPLE, 10, same=True),
        linkability.renewed(PEOPLE, 10),
    ):
        assert found.equal_error_rate == pytest.approx(0.5, abs=0.1)
        assert np.abs(found.mated).mean() < np.abs(linkability.within(PEOPLE).others).mean()


def test_attacker_who_knows_many_people_of_both_domains_links_the_others() -> None:
    """What the protection does not promise: the attack works, so that its figures mean something."""
    found = linkability.known_pairs(PEOPLE, 60, 2)
    assert found is not None
    assert found.equal_error_rate < 0.2
    assert linkability.known_pairs(PEOPLE, 61, 2) is None


def test_scores_change_by_less_than_a_ten_thousandth() -> None:
    assert max(linkability.score_changes(PEOPLE)) < 1e-4


@pytest.mark.usefixtures("voices")
@runs("bench/linkability.py")
def test_linkability_script_prints_every_comparison() -> None:
    printed = ran("bench/linkability.py", "--size", "tiny")
    assert "two domains, the same recording in both" in printed
    assert "greatest change of a cosine" in printed
