"""Documents: what YAML means here, what is refused, and Python values as plain ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adjobs.documents import MAX_DEPTH, InvalidDocumentError, dump_yaml, load_yaml, to_plain


def bomb() -> str:
    """Aliases of aliases: a million values in 300 characters."""
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for earlier, later in zip("abcde", "bcdef", strict=True):
        lines.append(f"{later}: &{later} [{', '.join([f'*{earlier}'] * 10)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("[true, False, null]", [True, False, None]),
        ("[yes, no, on, off]", ["yes", "no", "on", "off"]),
        ("[12, -3, 010, 0x1f, 0o17]", [12, -3, 10, 31, 15]),
        ("[1e-3, 1., .5, 1.0, -.inf]", [0.001, 1.0, 0.5, 1.0, float("-inf")]),
        ("[1:30, 1_000, 2026-13-45, =]", ["1:30", "1_000", "2026-13-45", "="]),
        ("{a: &x [1], b: *x}", {"a": [1], "b": [1]}),
        ("!!str 5", "5"),
        ("\ufeffa: 1", {"a": 1}),
    ],
)
def test_load_yaml_reads_the_core_schema(text: str, value: object) -> None:
    loaded = load_yaml(text)
    assert loaded == value
    assert repr(loaded) == repr(value)  # 1 is not True and not 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "key 'a' is given twice, in line 1 and line 3"),
        ("a:\n  1: x", "line 2: key 1; must be text"),
        ("? [a]\n: 1", "line 1: key ['a']; must be text"),
        ("a: b: c", "line 1: mapping values are not allowed here"),
        ("{", "line 1: while parsing a flow node"),
        ("---\n---\n", "expected a single document"),
        ("*a", "found undefined alias 'a'"),
        ("&a [*a]", f"more than {MAX_DEPTH} levels deep"),
        ("[" * 5000, f"more than {MAX_DEPTH} levels deep"),
        ("- " * 40, f"more than {MAX_DEPTH} levels deep"),
        (bomb(), "more than 100000 values"),
        ("!!int x", "tag !!int"),
        ("!!bool maybe", "tag !!bool"),
        ("!!timestamp 2026-13-45", "tag !!timestamp"),
        ("!!python/object/apply:os.system [ls]", "tag !!python/object/apply:os.system"),
        ("9" * 5000, "a number of 5000 characters"),
        ("a: \0", "character 4: U+0000 is not allowed"),
        (r'"a\0b"', "U+0000 in"),
        (r'"\ud800"', "U+D800 in"),
        (r'"\U00110000"', "an escape beyond"),
        (r'"\Uffffffff"', "an escape beyond"),
    ],
)
def test_load_yaml_other_text_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        load_yaml(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_load_yaml_integer_keys_are_read_where_allowed() -> None:
    assert load_yaml("{0: good, 1: scratch, a: b}", integer_keys=True) == {0: "good", 1: "scratch", "a": "b"}
    with pytest.raises(InvalidDocumentError, match="must be text or a whole number"):
        load_yaml("1.5: x", integer_keys=True)


@pytest.mark.parametrize(
    "value",
    ["1e3", "0o17", "010", "yes", "1:30", "2026-01-01", "~", "", ".5", "=", " a", "- a", "a\nb", "é", 1e-5, 1e300, 10**30, 1],
)
def test_dump_yaml_is_read_as_the_same_value(value: object) -> None:
    assert load_yaml(dump_yaml({"key": [value, None, True]})) == {"key": [value, None, True]}


def test_to_plain_converts_paths_and_numpy() -> None:
    document = {"a": Path("x/y"), "b": (np.int64(3), np.float64(0.5), np.bool_(True)), "c": np.arange(2), "d": np.str_("t")}
    plain = to_plain(document)
    assert plain == {"a": "x/y", "b": [3, 0.5, True], "c": [0, 1], "d": "t"}
    assert [type(item) for item in plain["b"]] == [int, float, bool]


def test_to_plain_is_a_copy() -> None:
    document = {"data": {"uri": "x"}}
    to_plain(document)["data"]["uri"] = "y"
    assert document == {"data": {"uri": "x"}}


@pytest.mark.parametrize("value", [object(), {1: "x"}, {"a": b"x"}, "a\0b", "\ud800", [10**5000], [set()]])
def test_to_plain_what_no_file_can_hold_is_refused(value: object) -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        to_plain(value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_to_plain_mapping_inside_itself_is_refused() -> None:
    document: dict[str, object] = {}
    document["self"] = document
    with pytest.raises(InvalidDocumentError, match="levels deep"):
        to_plain(document)
