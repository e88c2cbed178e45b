"""`s3://bucket/key`: valid names, joined names, and paths in folders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonant.errors import InvalidObjectName
from sonant.storage.objects.local_names import path_of, piece_of, segment_of
from sonant.storage.objects.store import ObjectUri

KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=250)
AWKWARD = st.lists(
    st.sampled_from(
        ["", ".", "..", "a", "%20", ".s3~", ".s3~61", ".s3~+", ".s3~tmp-1", "é" * 101, "\0", "\n"]
    ),
    min_size=1,
    max_size=8,
).map("/".join)


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [
        ("s3://calls/2024/one.wav", "calls", "2024/one.wav"),
        ("s3://my.calls-2/a", "my.calls-2", "a"),
        ("s3://abc", "abc", ""),
        ("s3://abc/", "abc", ""),
        ("s3://abc//a//b/", "abc", "/a//b/"),
        ("s3://abc/../x", "abc", "../x"),
        ("s3://abc/100%25 a+b?c#d\n\0", "abc", "100%25 a+b?c#d\n\0"),
        ("s3://abc/s3://def/x", "abc", "s3://def/x"),
        ("s3://" + "a" * 63 + "/" + "é" * 512, "a" * 63, "é" * 512),
    ],
)
def test_uri_is_parsed_without_escapes(text, bucket, key):
    assert ObjectUri.parse(text) == ObjectUri(bucket, key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "calls/one.wav",
        "S3://calls/one.wav",
        "https://calls/one.wav",
        " s3://calls/one.wav",
        "s3:///one.wav",
        "s3://ab/one.wav",
        "s3://" + "a" * 64 + "/one.wav",
        "s3://Calls/one.wav",
        "s3://calls_1/one.wav",
        "s3://-calls/one.wav",
        "s3://calls./one.wav",
        "s3://../one.wav",
        "s3://.../one.wav",
        "s3://calls\n/one.wav",
        "s3://call\0s/one.wav",
        "s3://cällé/one.wav",
        "s3://calls/" + "a" * 1025,
        "s3://calls/" + "é" * 513,
        "s3://calls/\ud800",
    ],
)
def test_name_that_s3_refuses_is_refused_with_a_printable_message(text):
    with pytest.raises(InvalidObjectName) as fault:
        ObjectUri.parse(text)
    assert str(fault.value).isprintable()
    assert len(str(fault.value)) < 300


def test_uri_that_s3_refuses_cannot_be_constructed():
    for bucket, key in [("..", "x"), ("calls/..", "x"), ("calls", "x" * 1025)]:
        with pytest.raises(InvalidObjectName):
            ObjectUri(bucket, key)


@given(KEYS)
def test_text_and_value_are_two_forms_of_the_same_name(key):
    uri = ObjectUri("calls", key)
    assert str(uri) == f"s3://calls/{key}"
    assert ObjectUri.parse(str(uri)) == uri


@given(KEYS)
def test_shown_uri_is_always_printable(key):
    assert ObjectUri("calls", key).shown.isprintable()


@pytest.mark.parametrize(
    ("key", "name"), [("a/b/one.wav", "one.wav"), ("one.wav", "one.wav"), ("a/", ""), ("", ""), ("/x", "x")]
)
def test_the_name_is_what_follows_the_last_slash(key, name):
    assert ObjectUri("calls", key).name == name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://out", "s3://out/JOB/in.json.out"),
        ("s3://out/", "s3://out/JOB/in.json.out"),
        ("s3://out/folder", "s3://out/folder/JOB/in.json.out"),
        ("s3://out/folder/", "s3://out/folder/JOB/in.json.out"),
        ("s3://out/a b/%2F/", "s3://out/a b/%2F/JOB/in.json.out"),
    ],
)
def test_parts_are_joined_with_exactly_one_slash(text, expected):
    assert str(ObjectUri.parse(text).child("JOB", "in.json.out")) == expected
    assert str(ObjectUri.parse(text).child("/JOB", "/in.json.out")) == expected


def test_a_name_that_grows_too_long_is_refused():
    with pytest.raises(InvalidObjectName):
        ObjectUri("out", "x" * 1000).child("y" * 30)


@given(st.lists(KEYS))
def test_uris_sort_as_the_bytes_of_their_keys(keys):
    uris = sorted(ObjectUri("calls", key) for key in keys)
    assert [uri.key.encode() for uri in uris] == sorted(key.encode() for key in keys)


# --- keys in folders


@pytest.mark.parametrize(
    "key",
    [
        "one.wav",
        "2024/03/100%.wav",
        "a b+c#?.wav",
        "%20",
        "ü/日本/😀.wav",
        ".hidden",
        "...",
        "~",
        "a\\b",
        "x" * 200,
    ],
)
def test_a_key_that_folders_can_hold_is_its_own_path(key):
    assert path_of(key) == tuple(key.encode().split(b"/"))


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a//b", [b"a", b".s3~", b"b"]),
        ("/a", [b".s3~", b"a"]),
        ("a/", [b"a", b".s3~"]),
        ("..", [b".s3~2e2e"]),
        ("./x", [b".s3~2e", b"x"]),
        ("a\0b", [b".s3~610062"]),
        (".s3~61", [b".s3~2e73337e3631"]),
        ("x" * 201, [b".s3~+" + b"78" * 100, b".s3~+" + b"78" * 100, b".s3~78"]),
    ],
)
def test_what_folders_cannot_hold_is_escaped(key, path):
    assert path_of(key) == tuple(path)


@given(st.one_of(KEYS.filter(bool), AWKWARD.filter(bool)))
def test_path_has_only_safe_names_and_converts_back_to_its_key(key):
    path = path_of(key)
    segments: list[str] = []
    piece = b""
    names: tuple[bytes, ...] = ()
    for name in path:
        assert 0 < len(name) <= 255
        assert name not in (b".", b"..")
        assert b"/" not in name
        assert b"\0" not in name
        found = piece_of(name)
        assert found is not None
        piece, names = piece + found[0], (*names, name)
        if not found[1]:
            segment = segment_of(piece, names)
            assert segment is not None
            segments.append(segment)
            piece, names = b"", ()
    assert "/".join(segments) == key
    assert names == ()


@given(AWKWARD.filter(bool), AWKWARD.filter(bool))
def test_two_keys_never_share_a_path(one, other):
    assert (path_of(one) == path_of(other)) == (one == other)


@pytest.mark.parametrize(
    "name",
    [b".s3~61", b".s3~2E", b".s3~2e 2e", b".s3~x", b".s3~2", b".s3~tmp-00", b".s3~+2e", b"\xff", b"a\nb"],
)
def test_file_name_of_no_key_converts_to_none(name):
    found = piece_of(name)
    assert found is None or found[1] or segment_of(found[0], (name,)) is None
