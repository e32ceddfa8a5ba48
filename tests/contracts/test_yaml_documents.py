import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_assets.contracts.yaml_documents import MAX_CHARACTERS, YamlError, read_documents


def value_of(text: str) -> object:
    return read_documents(text)[0].value


def test_values_mean_what_a_person_wrote() -> None:
    written = value_of("a: NO\nb: 12:30\nc: on\nd: true\ne: 1_000\nf: 0o17\ng: 2013-01-01\nh:\ni: 0.5\nj: 7")
    assert isinstance(written, dict)
    assert {key: str(value) for key, value in written.items()} == {
        "a": "NO",
        "b": "12:30",
        "c": "on",
        "d": "True",
        "e": "1_000",
        "f": "0o17",
        "g": "2013-01-01",
        "h": "None",
        "i": "0.5",
        "j": "7",
    }
    assert (written["d"], written["h"], written["i"], written["j"]) == (True, None, 0.5, 7)


def test_a_quoted_value_stays_text() -> None:
    assert value_of('a: "7"') == {"a": "7"}


def test_a_duplicate_key_names_both_lines() -> None:
    with pytest.raises(YamlError, match="given twice \\(first on line 2\\)") as caught:
        read_documents("a:\n  b: 1\n  c: 2\n  b: 3\n")
    assert (caught.value.line, caught.value.key) == (4, "a.b")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &x [1]\nb: *x", "anchors and aliases"),
        ("a: !!python/object/apply:os.system ['true']", "tag"),
        ("a: [1", "not valid YAML"),
        ("? [a, b]\n: 1", "a key must be a plain word"),
        ("a: " + "x" * MAX_CHARACTERS, "characters"),
    ],
)
def test_what_yaml_would_change_silently_is_refused(text: str, said: str) -> None:
    with pytest.raises(YamlError, match=said):
        read_documents(text)


def test_lines_are_those_of_the_file() -> None:
    document = read_documents("# first\na:\n  b:\n    - x\n    - y\n")[0]
    assert document.line_of(("a", "b", 1)) == 5
    assert document.line_of(("a", "missing")) == 2


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(YamlError):
        read_documents(text)
