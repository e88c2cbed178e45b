"""Search: equal to comparing with every voice, whatever the voices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonant.voice.search import Gallery

DIMENSIONS = 256
#: Difference that adding 256 float32 products in another order may cause.
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


@pytest.mark.parametrize("kind", ["spread", "one-sided", "clusters", "alike"])
@pytest.mark.parametrize("count", [500, 20_000])
@pytest.mark.parametrize("queried", [1, 2, 64])
def test_best_finds_the_greatest_similarity(kind, count, queried):
    rng = np.random.default_rng(queried)
    rows, queries = voices(rng, count, kind), voices(rng, queried, kind)
    found = gallery(rows).best(queries)
    assert np.allclose([match.similarity for match in found], greatest(rows, queries), atol=ROUNDING)


def test_best_in_several_blocks_finds_voices_of_all_of_them():
    rng = np.random.default_rng(11)
    count = 100_000
    rows = voices(rng, count, "clusters", 32)
    queries = np.concatenate([rows[[0, count // 2, count - 1]], voices(rng, 61, "clusters", 32)])
    found = gallery(rows).best(queries)
    assert [match.key for match in found[:3]] == ["voice-0", f"voice-{count // 2}", f"voice-{count - 1}"]
    assert np.allclose([match.similarity for match in found], greatest(rows, queries), atol=ROUNDING)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.lists(st.booleans(), max_size=60))
def test_changed_gallery_equals_a_fresh_one(seed, steps):
    """Adds for True and removes for False."""
    rng = np.random.default_rng(seed)
    known = {f"first-{n}": row for n, row in enumerate(voices(rng, 5, "one-sided"))}
    changing = Gallery(list(known), np.stack(list(known.values())))
    for number, adds in enumerate(steps):
        query = voices(rng, 1, "one-sided")
        if adds or not known:
            known[f"more-{number}"] = voices(rng, 1, "spread")[0]
            changing.add(f"more-{number}", known[f"more-{number}"])
        else:
            removed = str(rng.choice(list(known)))
            del known[removed]
            changing.remove(removed)
        assert set(changing.keys) == set(known)
        (match,) = changing.best(query)
        if not known:
            assert match is None
            continue
        assert match is not None
        assert abs(match.similarity - greatest(np.stack(list(known.values())), query)[0]) < ROUNDING
        assert abs(match.similarity - float(known[match.key] @ query[0])) < ROUNDING


def test_removed_voice_is_not_found_and_not_in_memory():
    rows = voices(np.random.default_rng(5), 20, "spread")
    removed = rows[7].copy()
    changing = gallery(rows.copy())
    assert changing.best([removed])[0].key == "voice-7"
    changing.remove("voice-7")
    assert "voice-7" not in changing
    assert changing.best([removed])[0].key != "voice-7"
    assert not np.any(np.all(np.isclose(changing.vectors, removed), axis=1))


@pytest.mark.parametrize("scale", [0.0, 1e-38, 1e-20])
def test_query_without_direction_finds_any_voice(scale):
    rows = voices(np.random.default_rng(2), 300, "spread")
    query = (rows[:1] * np.float32(scale)).astype(np.float32)
    (match,) = gallery(rows).best(query)
    assert match.similarity == (rows @ query[0]).max()


def test_empty_gallery_finds_nothing():
    assert Gallery().best(voices(np.random.default_rng(1), 2, "spread")) == [None, None]
    assert gallery(voices(np.random.default_rng(1), 2, "spread")).best([]) == []


def test_repeated_key_is_refused():
    rows = voices(np.random.default_rng(1), 2, "spread")
    with pytest.raises(ValueError, match="twice"):
        Gallery(["a", "a"], rows)
    with pytest.raises(ValueError, match="twice"):
        Gallery(["a", "b"], rows).add("a", rows[0])
    with pytest.raises(ValueError, match="2 vectors"):
        Gallery(["a"], rows)
