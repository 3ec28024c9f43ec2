"""One word for one thing: words that say nothing, or something else in this field, are no identifiers. See docs/glossary.md."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("adjobs", "tests", "benchmarks", "examples")

# What to say instead, for the message of a failing test.
FORBIDDEN = {
    **dict.fromkeys(["luck", "lot"], "seed, generator, subset"),
    **dict.fromkeys(["tell", "tells", "told", "heard", "hears", "spoken", "said", "minding"], "report, on_*, message"),
    **dict.fromkeys(["look", "looks", "looked", "judge", "judged", "conclude"], "evaluate, check, inspect"),
    **dict.fromkeys(["begin", "begins", "begun", "began"], "start, started_at"),
    **dict.fromkeys(["anew"], "again, retrain, recompute"),
    **dict.fromkeys(["found", "got", "here", "there"], "the name of the thing"),
    **dict.fromkeys(["asks", "asked"], "request, requested"),
    **dict.fromkeys(["goal", "goals", "flattery"], "objective, gap"),
    **dict.fromkeys(["deaths", "died"], "failures, lost"),
    **dict.fromkeys(["loudness", "quieten", "usual", "strange", "mend"], "the field's word"),
    **dict.fromkeys(["picture", "pictures"], "image"),
    **dict.fromkeys(["good", "bad"], "normal, anomalous"),
    **dict.fromkeys(["part", "parts"], "split; share, term, temporary; part is the workpiece"),
    **dict.fromkeys(["division", "divisions"], "split"),
    **dict.fromkeys(["measure", "measures"], "metric"),
}

# Words of other libraries.
ALLOWED_ATTRIBUTES = {"begin", "parts", "tell"}  # SQLAlchemy, pathlib, Optuna
ALLOWED_NAMES = {
    *("BAD_REQUEST", "FileNotFoundError", "PackageNotFoundError"),
    *("MultiPartException", "MultiPartParser", "max_part_size"),  # Starlette
}


def identifiers(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Line, identifier, and whether it is an attribute, for every name in a file."""
    previous = ""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], token.string, previous == "."
        previous = token.string


def words(identifier: str) -> list[str]:
    """The words of a snake_case or CamelCase name."""
    return [word.lower() for word in re.split(r"_+|(?<=[a-z0-9])(?=[A-Z])", identifier) if word]


def is_allowed(word: str, identifier: str, *, is_attribute: bool) -> bool:
    """Words of other libraries, verbs, sentences that are the names of tests, and the workpiece in what draws some."""
    if identifier in ALLOWED_NAMES or (is_attribute and word in ALLOWED_ATTRIBUTES):
        return True
    return (word == "measure" and identifier.startswith("measure_")) or (
        word in ("found", "part", "parts") and identifier.startswith("test_")
    )


def test_identifiers_use_the_fields_words():
    violations = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            for line, identifier, is_attribute in identifiers(path):
                for word in words(identifier):
                    if word in FORBIDDEN and not is_allowed(word, identifier, is_attribute=is_attribute):
                        violations.append(f"{name}:{line}: {identifier} ({word}; say {FORBIDDEN[word]})")
    assert violations == [], f"{len(violations)} names, the first: " + "\n".join(violations[:40])


def test_words_of_an_identifier():
    assert words("_CachedEvaluator") == ["cached", "evaluator"]
    assert words("BAD_PARTS") == ["bad", "parts"]
    assert words("image2part") == ["image2part"]
