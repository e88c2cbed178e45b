"""Search finds what comparing with every voice finds, whatever the voices are like."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonant.voice import search
from sonant.voice.coarse import Coarse
from sonant.voice.search import Gallery

DIMENSIONS = 256
#: What adding 256 float32 products in another order may change.
ROUNDING = 2e-6


def unit(rows):
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def voices(rng, count, kind, dimensions=DIMENSIONS):
    """Unit vectors: spread out; like GE2E's, none negative; of few people; or nearly the same."""
    noise = rng.standard_normal((count, dimensions))
    match kind:
        case "spread":
            return unit(noise)
        case "one-sided":
            return unit(np.maximum(noise - 0.3, 0) + 0.02)
        case "clusters":
            people = rng.standard_normal((max(1, count // 50), dimensions))
            return unit(people[rng.integers(0, len(people), count)] + 0.1 * noise)
        case "alike":
            return unit(rng.standard_normal(dimensions) + 1e-3 * noise)
    raise AssertionError(kind)


def gallery(rows):
    return Gallery([f"voice-{n}" for n in range(len(rows))], rows)


def greatest(rows, queries):
    return (queries.astype(np.float64) @ rows.astype(np.float64).T).max(axis=1)


KINDS = ("spread", "one-sided", "clusters", "alike")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("asked", [1, 2, 64])
def test_short_lists(kind, asked):
    rng = np.random.default_rng(asked)
    rows, queries = voices(rng, 500, kind), voices(rng, asked, kind)
    found = gallery(rows).best(queries)
    assert np.allclose([match.similarity for match in found], greatest(rows, queries), atol=ROUNDING)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("asked", [1, 64])
def test_the_coarse_look_loses_nobody(kind, asked):
    rng = np.random.default_rng(7 * asked)
    rows, queries = voices(rng, 20_000, kind), voices(rng, asked, kind)
    places = Coarse(rows).nearest(rows, queries)
    found = np.einsum("qd,qd->q", rows[places].astype(np.float64), queries.astype(np.float64))
    assert np.allclose(found, greatest(rows, queries), atol=ROUNDING)


def test_what_the_coarse_look_alone_would_choose_is_often_wrong():
    """Without the exact comparison of the candidates the search would not be exact: here is the proof."""
    rng = np.random.default_rng(3)
    somebody = voices(rng, 1, "spread")
    rows, queries = (unit(somebody + 0.05 * voices(rng, count, "spread")) for count in (2_000, 64))
    rows = np.concatenate([voices(rng, 2_000, "spread"), rows])  # far apart: the steps are wide
    coarse = Coarse(rows)
    coarse._lost = coarse._size = 0.0  # hardly any slack
    places = coarse.nearest(rows, queries)
    found = np.einsum("qd,qd->q", rows[places].astype(np.float64), queries.astype(np.float64))
    assert not np.allclose(found, greatest(rows, queries), atol=ROUNDING)
    places = Coarse(rows).nearest(rows, queries)
    found = np.einsum("qd,qd->q", rows[places].astype(np.float64), queries.astype(np.float64))
    assert np.allclose(found, greatest(rows, queries), atol=ROUNDING)


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 400),
    st.integers(1, 20),
    st.integers(1, 40),
    st.sampled_from(KINDS),
    st.sampled_from([1e-30, 1e-3, 1.0, 1e3]),
)
def test_the_bound_holds_for_any_rows(seed, count, asked, dimensions, kind, scale):
    """Also for vectors of other lengths than 1, of few dimensions, and with dimensions that never vary."""
    rng = np.random.default_rng(seed)
    rows = np.ascontiguousarray(voices(rng, count, kind, dimensions) * np.float32(scale), np.float32)
    rows[:, rng.integers(0, dimensions)] = rng.choice([0, scale])
    queries = voices(rng, asked, "spread", dimensions)
    places = Coarse(rows).nearest(rows, queries)
    found = np.einsum("qd,qd->q", rows[places].astype(np.float64), queries.astype(np.float64))
    assert np.all(found >= greatest(rows, queries) - ROUNDING * max(scale, 1))


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.lists(st.booleans(), max_size=60), st.booleans())
def test_a_gallery_that_changes_is_what_a_fresh_one_would_be(seed, steps, coarse):
    """Adding (True) and removing (False), with and without the coarse form."""
    rng = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "COARSE_FROM", 1 if coarse else 10**9)
        known = {f"first-{n}": row for n, row in enumerate(voices(rng, 5, "one-sided"))}
        changing = Gallery(list(known), np.stack(list(known.values())))
        for number, adds in enumerate(steps):
            query = voices(rng, 1, "one-sided")
            if adds or not known:
                known[f"more-{number}"] = voices(rng, 1, "spread")[0]
                changing.add(f"more-{number}", known[f"more-{number}"])
            else:
                gone = str(rng.choice(list(known)))
                del known[gone]
                changing.remove(gone)
            assert set(changing.keys) == set(known)
            (match,) = changing.best(query)
            if not known:
                assert match is None
                continue
            assert match is not None
            assert abs(match.similarity - greatest(np.stack(list(known.values())), query)[0]) < ROUNDING
            assert abs(match.similarity - float(known[match.key] @ query[0])) < ROUNDING


def test_100_000_voices_and_more_are_searched_exactly():
    rng = np.random.default_rng(11)
    count = search.COARSE_FROM
    rows = voices(rng, count, "clusters")
    queries = np.concatenate([rows[[0, count // 2, count - 1]], voices(rng, 13, "clusters")])
    large = gallery(rows)
    found = large.best(queries)
    assert [match.key for match in found[:3]] == ["voice-0", f"voice-{count // 2}", f"voice-{count - 1}"]
    assert np.allclose([match.similarity for match in found], greatest(rows, queries), atol=ROUNDING)
    assert large._coarse is not None


@pytest.mark.parametrize("coarse_from", [1, 10**9])
def test_who_is_removed_is_not_found_and_leaves_nothing_in_memory(monkeypatch, coarse_from):
    monkeypatch.setattr(search, "COARSE_FROM", coarse_from)
    rng = np.random.default_rng(5)
    rows = voices(rng, 20, "spread")
    gone = rows[7].copy()
    changing = gallery(rows.copy())
    assert changing.best([gone])[0].key == "voice-7"
    changing.remove("voice-7")
    assert "voice-7" not in changing
    assert changing.best([gone])[0].key != "voice-7"
    assert not np.any(np.all(np.isclose(changing._rows, gone), axis=1))


@pytest.mark.parametrize("scale", [0.0, 1e-38, 1e-20])
def test_a_query_without_direction_finds_somebody(scale):
    """Nobody is nearer than anybody else then; nothing may overflow."""
    rows = voices(np.random.default_rng(2), 300, "spread")
    query = (rows[:1] * np.float32(scale)).astype(np.float32)
    (place,) = Coarse(rows).nearest(rows, query)
    assert rows[place] @ query[0] == (rows @ query[0]).max()


@pytest.mark.parametrize("asked", [1, 64])
def test_few_rows_are_left_to_compare_among_voices_as_alike_as_real_ones(asked):
    """Strangers at a cosine of about 0.7: else the search would be exact but slow."""
    rng = np.random.default_rng(13)
    common = 1.2 * rng.standard_normal(DIMENSIONS)
    rows, queries = (
        unit(np.maximum(rng.standard_normal((count, DIMENSIONS)) + common, 0)) for count in (20_000, asked)
    )
    assert 0.6 < float(np.mean(queries @ rows.T)) < 0.8
    left = []

    class Counting(Coarse):
        def _candidates(self, *arguments):
            left.extend(found := super()._candidates(*arguments))
            return found

    Counting(rows).nearest(rows, queries)
    assert np.mean([len(found) for found in left]) < 200


def test_an_empty_gallery_finds_nobody():
    assert Gallery().best(voices(np.random.default_rng(1), 2, "spread")) == [None, None]
    assert gallery(voices(np.random.default_rng(1), 2, "spread")).best([]) == []


def test_a_key_stands_once():
    rows = voices(np.random.default_rng(1), 2, "spread")
    with pytest.raises(ValueError, match="twice"):
        Gallery(["a", "a"], rows)
    with pytest.raises(ValueError, match="twice"):
        Gallery(["a", "b"], rows).add("a", rows[0])
    with pytest.raises(ValueError, match="2 vectors"):
        Gallery(["a"], rows)
