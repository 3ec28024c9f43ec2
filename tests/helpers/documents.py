"""Odd values and odd YAML, for tests that whatever is in a document is a result or one line."""

from __future__ import annotations

from hypothesis import strategies as st

ODD_SCALARS = st.sampled_from(
    [
        None, True, False, 0, 1, -1, 2**31, 2**64, 10**30, -(10**30), 0.5, 1.0, -0.0, 1e-300, 1e300, float("inf"), float("nan"),
        "", " ", "0", "1.0", "yes", "none", "auto", "x" * 5000, "a\nb", "a\0b", "\ud800", "é", "/", "..", "s3://", "elpv", "cdo",
    ]
)  # fmt: skip
ODD_NUMBERS = st.sampled_from([0, 1, 2, -1, 2**31, 10**12, 2**60, 10**30, 0.5, 1e-300, 5e-324, 1e300, 0.1, 0.3, 3e-300])
ODD_VALUES = st.recursive(
    ODD_SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.just("policy"), inner, max_size=3),
    max_leaves=6,
)
ODD_YAML = st.sampled_from(
    [
        "", "~", "1e3", "0x", "010", "1_0", "1:30", "2026-13-45", ".inf", ".nan", "9" * 5000, "1e999", "[", "{", "- -", "*a",
        "&a [*a]", "!!int x", "!!bool x", "!!timestamp x", "!!binary x", "!!set {a}", "!!python/name:os.system", "!x y", "? a",
        "{1: 2}", "{a: 1, a: 2}", "[" * 2000, "{a: " * 2000, "'", '"\\ud800"', '"\\0"', '"\\Uffffffff"', "\0", "\t", "\n", "---",
        "%YAML 3.0", "<<", "=", ": ", "# ", "|", ">-", "@", "`", "\x85", "\ufeff", "\ud800",
    ]
)  # fmt: skip


def check_message(error: BaseException) -> None:
    """One line of at most 1000 characters that can be printed."""
    text = str(error)
    assert text
    assert len(text) <= 1000
    assert len(text.splitlines()) == 1
