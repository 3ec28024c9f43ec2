from __future__ import annotations

import pytest

from adjobs.data.reading import ReadContext, ReadOptions


@pytest.mark.parametrize("name", ["kein Fehler", "Fehlerfrei", "defektfrei", "Kein_Defekt", "defect-free", "DefectFree", "pass"])
def test_is_normal_names_are_compared_without_spaces_and_hyphens(name):
    assert ReadContext().is_normal(name)


@pytest.mark.parametrize(
    "name", ["good", "OK", "i.O.", "IO", "Gut", " no  defect", "No_Defect", "NoDefect", "no_defect", "No-Defect"]
)
def test_is_normal_listed_names_are_normal(name):
    assert ReadContext().is_normal(name)


@pytest.mark.parametrize("name", ["bad", "n.i.O.", "NG", "scratch", "", "not ok", "Fehler", "Defect", "abnormal"])
def test_is_normal_other_names_are_not(name):
    assert not ReadContext().is_normal(name)


def test_is_normal_names_of_the_job_replace_the_list():
    context = ReadContext(ReadOptions(normal_classes=("Gutteil",)))
    assert (context.is_normal("gutteil"), context.is_normal("good")) == (True, False)
