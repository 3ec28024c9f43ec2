from __future__ import annotations

from adjobs.registry.comparison import compare_versions
from tests.helpers.registry import add_evaluated_version, draw_scores, store

__all__ = ["store"]


def test_compare_versions_several_images_of_one_part_count_once(store, tmp_path):
    boards = tuple(f"board-{number // 4}" for number in range(140))
    numbers = [
        add_evaluated_version(store, "line-3", tmp_path / "models", draw_scores(quality)._replace(groups=boards))
        for quality in (0.2, 1.0)
    ]
    model = store.model("line-3")
    result = compare_versions(store.uri, *(store.version(model, number) for number in numbers))
    assert (result.unit, result.normal, result.anomalous) == ("parts", 25, 10)
    assert "parts" in next(check.sentence for check in result.verdict.checks if check.name == "false_alarm_rate")
