"""Messages: one line, of bounded length, whatever they quote."""

from __future__ import annotations

from adjobs.errors import JobError, choices, join_problems, one_line, shorten, shown


def test_adjobs_error_with_control_characters_is_one_line() -> None:
    assert str(JobError("a\nb\x1b[31mc\u2028d")) == "a b [31mc d"


def test_one_line_error_without_text_is_its_type() -> None:
    assert one_line(ValueError()) == "ValueError"
    assert one_line(ValueError("a\n  b")) == "a b"


def test_shorten_long_text_ends_in_dots() -> None:
    assert shorten("a" * 500) == "a" * 197 + "..."
    assert shorten("a \n b") == "a b"


def test_shown_value_is_short_and_on_one_line() -> None:
    assert shown("a\nb") == r"'a\nb'"
    assert len(shown(["x" * 1000])) == 200
    assert shown(10**5000) == "a very long int"


def test_join_problems_that_do_not_fit_are_counted() -> None:
    assert join_problems(["a", "b", "a"]) == "a; b"
    many = join_problems([f"params.x{i}: unknown key" for i in range(100)])
    assert many.startswith("params.x0: unknown key; params.x1: unknown key; ")
    assert many.endswith(" more; fix these first")
    assert len(many) < 800


def test_choices_of_many_names_are_the_guess_alone() -> None:
    names = [f"parameter_{i}" for i in range(100)]
    assert choices("parametr_7", names) == "did you mean 'parameter_7'?"
    assert choices("zzz", names).startswith("available: parameter_0, ")
    assert len(choices("zzz", names)) < 500
