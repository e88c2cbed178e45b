"""Local keys: their names, and data keys under them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import wait_until

from sonant.errors import KeyNotFound, KeyUnusable, SealBroken, SetupError
from sonant.storage.keys.store import canonical_context
from sonant.storage.keys.stores import local

REGION, ACCOUNT = "eu-west-1", "123456789012"
CONTEXT = {"aws:voiceid:domain:arn": "arn:aws:voiceid:eu-west-1:123456789012:domain/D"}
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def store(open_keys):
    return open_keys()


# --- names


def test_key_is_found_by_id_arn_alias_and_alias_arn(store):
    key = store.create("for tests", alias="alias/sonant")
    refs = [key.key_id, key.arn, "alias/sonant", f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/sonant"]
    assert [store.describe(ref) for ref in refs] == [key] * 4
    for ref in refs:
        data_key = store.generate_data_key(ref, CONTEXT)
        assert store.decrypt(data_key.wrapped, CONTEXT) == data_key.plaintext


def test_a_new_key_says_what_it_is(store, clock):
    key = store.create("for tests", alias="alias/a")
    store.create_alias("alias/B/2-_", key.key_id)
    key = store.describe(key.key_id)
    assert key.arn == f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{key.key_id}"
    assert (key.state, key.description, key.symmetric) == ("Enabled", "for tests", True)
    assert (key.created_at, key.deletion_date) == (clock.now, None)
    assert key.aliases == ("alias/B/2-_", "alias/a")


@pytest.mark.parametrize(
    "ref",
    [
        "",
        UNKNOWN_ID,
        "sonant",
        "alias/other",
        "alias/",
        "alias/../../etc/passwd",
        "../" + UNKNOWN_ID,
        UNKNOWN_ID + "\n",
        "{id}\n",
        "{ID}",
        "key/{id}",
        "arn:aws:kms:us-east-1:123456789012:key/{id}",
        "arn:aws:kms:eu-west-1:000000000000:key/{id}",
        "arn:aws-cn:kms:eu-west-1:123456789012:key/{id}",
        "arn:aws:kms:eu-west-1:000000000000:alias/sonant",
        "arn:aws:kms:eu-west-1:123456789012:{id}",
        "arn:aws:kms:eu-west-1:123456789012:key/alias/sonant",
        "arn:aws:s3:::bucket",
        "\x1b[31m" + "x" * 5000,
    ],
)
def test_no_other_name_finds_a_key(store, ref):
    key_id = store.create(alias="alias/sonant").key_id
    ref = ref.replace("{id}", key_id).replace("{ID}", key_id.upper())
    for use in (store.describe, lambda r: store.generate_data_key(r, CONTEXT), store.disable):
        with pytest.raises(KeyNotFound) as fault:
            use(ref)
        assert len(str(fault.value)) < 400
        assert str(fault.value).isprintable()


@pytest.mark.parametrize(
    "alias",
    [
        "",
        "sonant",
        "alias/",
        "alias/aws/s3",
        "alias/aws/voiceid/x",
        "alias/a b",
        "alias/ä",
        "alias/a\n",
        "alias/" + "x" * 251,
    ],
)
def test_a_malformed_alias_is_refused(store, alias):
    key = store.create()
    with pytest.raises(SetupError, match="is not an alias"):
        store.create_alias(alias, key.key_id)
    with pytest.raises(SetupError, match="is not an alias"):
        store.create(alias=alias)
    assert len(store.list()) == 1


def test_the_longest_alias_is_accepted(store):
    longest = "alias/" + "x" * 250
    assert store.create(alias=longest).aliases == (longest,)


def test_an_alias_names_one_key_only(store):
    first = store.create(alias="alias/sonant")
    with pytest.raises(SetupError, match="is taken"):
        store.create(alias="alias/sonant")
    assert store.list() == [first]


def test_an_alias_can_be_taken_away_and_given_to_another_key(store):
    store.create(alias="alias/sonant")
    second = store.create()
    store.delete_alias("alias/sonant")
    with pytest.raises(KeyNotFound):
        store.describe("alias/sonant")
    with pytest.raises(KeyNotFound):
        store.delete_alias("alias/sonant")
    store.create_alias("alias/sonant", second.arn)
    assert store.describe("alias/sonant").key_id == second.key_id


def test_an_alias_needs_a_key(store):
    with pytest.raises(KeyNotFound):
        store.create_alias("alias/sonant", UNKNOWN_ID)


def test_keys_are_listed_oldest_first(store, clock):
    created = []
    for _ in range(4):
        created.append(store.create())
        clock.now += timedelta(seconds=1)
    assert store.list() == created


# --- data keys


def test_data_keys_are_fresh_256_bit_keys(store):
    key = store.create()
    made = [store.generate_data_key(key.key_id, CONTEXT) for _ in range(100)]
    assert {len(data_key.plaintext) for data_key in made} == {32}
    assert len({data_key.plaintext for data_key in made}) == 100
    assert len({data_key.wrapped for data_key in made}) == 100
    assert made[0].key_id == key.key_id


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"aws:voiceid:domain:arn": "arn:aws:voiceid:eu-west-1:123456789012:domain/E"},
        {**CONTEXT, "more": ""},
        {"aws:voiceid:domain:arna": CONTEXT["aws:voiceid:domain:arn"][1:]},
    ],
)
def test_a_data_key_opens_only_with_its_own_context(store, other):
    wrapped = store.generate_data_key(store.create().key_id, CONTEXT).wrapped
    with pytest.raises(SealBroken):
        store.decrypt(wrapped, other)


def test_the_order_of_the_context_does_not_matter(store):
    data_key = store.generate_data_key(store.create().key_id, {"a": "1", "b": "2"})
    assert store.decrypt(data_key.wrapped, {"b": "2", "a": "1"}) == data_key.plaintext


CONTEXTS = st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3)


@given(CONTEXTS, CONTEXTS)
def test_two_contexts_have_the_same_form_only_if_they_are_equal(one, other):
    assert (canonical_context(one) == canonical_context(other)) == (one == other)


def test_altered_or_truncated_wrapped_key_is_refused(store):
    wrapped = store.generate_data_key(store.create().key_id, CONTEXT).wrapped
    broken = [wrapped[:length] for length in range(len(wrapped))] + [wrapped + b"\0"]
    for bit in range(len(wrapped) * 8):
        altered = bytearray(wrapped)
        altered[bit // 8] ^= 1 << bit % 8
        broken.append(bytes(altered))
    for value in broken:
        # A flipped bit in the key's id names a key that does not exist.
        with pytest.raises((SealBroken, KeyNotFound)):
            store.decrypt(value, CONTEXT)


def test_a_wrapped_key_cannot_be_passed_off_as_one_of_another_key(store):
    wrapped = store.generate_data_key(store.create().key_id, CONTEXT).wrapped
    other = store.generate_data_key(store.create().key_id, CONTEXT).wrapped
    with pytest.raises(SealBroken):
        store.decrypt(other[:20] + wrapped[20:], CONTEXT)


def test_wrapped_key_names_its_key_even_when_disabled(store):
    old, new = store.create(), store.create()
    wrapped = store.generate_data_key(old.key_id, CONTEXT).wrapped
    assert store.key_of(wrapped) == old.arn
    assert store.key_of(store.re_wrap(wrapped, CONTEXT, new.key_id)) == new.arn
    store.disable(old.key_id)
    assert store.key_of(wrapped) == old.arn
    with pytest.raises(SealBroken):
        store.key_of(wrapped[1:])


def test_re_wrapping_moves_a_data_key_under_another_key(store):
    old, new = store.create(), store.create(alias="alias/new")
    data_key = store.generate_data_key(old.key_id, CONTEXT)
    moved = store.re_wrap(data_key.wrapped, CONTEXT, "alias/new")
    store.disable(old.key_id)
    assert store.decrypt(moved, CONTEXT) == data_key.plaintext
    store.disable(new.key_id)
    with pytest.raises(KeyUnusable):
        store.decrypt(moved, CONTEXT)


def test_re_wrapping_needs_the_right_context_and_two_usable_keys(store):
    old, new = store.create(), store.create()
    wrapped = store.generate_data_key(old.key_id, CONTEXT).wrapped
    with pytest.raises(SealBroken):
        store.re_wrap(wrapped, {}, new.key_id)
    with pytest.raises(KeyNotFound):
        store.re_wrap(wrapped, CONTEXT, UNKNOWN_ID)
    store.disable(new.key_id)
    with pytest.raises(KeyUnusable):
        store.re_wrap(wrapped, CONTEXT, new.key_id)


# --- what stays in memory


def test_disabled_key_leaves_the_memory_of_every_process_at_its_next_use(open_keys):
    one, other = open_keys(), open_keys()
    key = one.create()
    wrapped = one.generate_data_key(key.key_id, {}).wrapped
    other.decrypt(wrapped, {})
    assert (one.ciphers_in_memory, other.ciphers_in_memory) == (1, 1)
    one.disable(key.key_id)
    with pytest.raises(KeyUnusable):
        other.decrypt(wrapped, {})
    assert (one.ciphers_in_memory, other.ciphers_in_memory) == (0, 0)


@pytest.mark.parametrize("take_away", ["disable", "schedule_deletion"])
def test_key_that_is_taken_away_leaves_idle_processes_at_once(open_keys, monkeypatch, take_away):
    monkeypatch.setattr(local, "MEMORY_S", 3600.0)
    one, idle = open_keys(), open_keys()
    key = one.create()
    idle.decrypt(one.generate_data_key(key.key_id, {}).wrapped, {})
    assert idle.ciphers_in_memory == 1
    getattr(one, take_away)(key.key_id, *([7] if take_away == "schedule_deletion" else []))
    wait_until("the key to leave the idle process", lambda: idle.ciphers_in_memory == 0)


def test_looking_at_a_key_holds_no_cipher_of_it(open_keys):
    store = open_keys()
    key = store.create()
    assert store.describe(key.key_id).state == "Enabled"
    assert [one.key_id for one in store.list()] == [key.key_id]
    assert store.ciphers_in_memory == 0


def test_key_that_nobody_uses_leaves_memory_by_itself(open_keys, monkeypatch):
    monkeypatch.setattr(local, "MEMORY_S", 0.05)
    store = open_keys()
    wrapped = store.generate_data_key(store.create().key_id, {}).wrapped
    wait_until("the key to leave memory", lambda: store.ciphers_in_memory == 0)
    store.decrypt(wrapped, {})
