"""What is tried next and stopped early: the same again when a search goes on, nothing twice, better than chance."""

from __future__ import annotations

import pytest

from adjobs.config.resolve import resolve
from adjobs.errors import JobError
from adjobs.tuning.objective import Objective, objectives
from adjobs.tuning.space import Space, parse_space
from adjobs.tuning.study import Rules, Study

JOB = resolve({"method": "cdo", "data": {"uri": "pictures"}})
GOALS = objectives((), JOB)
AXES = {
    "params.gamma": {"uniform": [0, 4]},
    "params.lr": {"loguniform": [1e-4, 1e-2]},
    "params.fill": {"choice": ["uniform", "gaussian"]},
}


def space(axes: dict[str, object] = AXES) -> Space:
    return parse_space({"method": "cdo", "axes": axes}, "space")


def study(sampler="tpe", stopper="none", *, axes=AXES, seed=0, grace=1, goals=GOALS) -> Study:
    return Study(space(axes), JOB, goals, Rules(sampler, stopper, grace, seed))


def goodness(point: dict[str, float]) -> float:
    """Best at γ = 3.5, whatever else."""
    return 1 - abs(point["params.gamma"] - 3.5) / 4


def played(one: Study, trials: int) -> list[dict[str, float]]:
    points = []
    for number in range(trials):
        point = one.ask(number)
        one.finish(number, (goodness(point),))
        points.append(point)
    return points


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_that_goes_on_suggests_what_it_would_have(sampler):
    whole = played(study(sampler), 20)
    again = study(sampler)
    for number, point in enumerate(whole[:14]):
        again.begin(number, point)
        again.finish(number, (goodness(point),))
    assert [again.ask(number) for number in (14,)] == whole[14:15]


def test_the_job_as_it_is_comes_first_and_the_seed_decides_the_rest():
    assert study().ask(0) == {"params.gamma": 2.0, "params.lr": 2e-4, "params.fill": "uniform"}
    assert played(study(seed=0), 3) != played(study(seed=1), 3)


def test_a_job_outside_the_space_comes_first_all_the_same():
    one = study(axes={"params.gamma": {"uniform": [3, 4]}})
    assert one.ask(0) == {}
    one.finish(0, (0.5,))
    assert set(one.ask(1)) == {"params.gamma"}


def test_tpe_learns_where_it_is_good():
    later = [goodness(point) for point in played(study("tpe"), 40)[20:]]
    by_chance = [goodness(point) for point in played(study("random"), 40)[20:]]
    assert sum(later) / 20 > sum(by_chance) / 20 + 0.1


def test_nothing_is_tried_twice_and_a_small_space_has_an_end():
    one = study("random", axes={"params.levels": {"randint": [1, 3]}, "params.fill": {"choice": ["uniform", "gaussian"]}})
    points = [one.ask(number) for number in range(7)]
    assert points[6] is None
    assert len({tuple(sorted(point.items())) for point in points[:6]}) == 6


def test_a_grid_has_every_point_once():
    one = study("grid", axes={"params.levels": {"randint": [1, 3]}, "params.mom": {"choice": [True, False]}})
    points = [one.ask(number) for number in range(7)]
    assert points[0] == {"params.levels": 1, "params.mom": True}
    assert points[6] is None
    assert not one.begins_with_the_job


def test_points_that_do_not_fit_are_drawn_again_and_counted():
    axes = {"params.first": {"choice": [1, 2, 3]}, "params.levels": {"choice": [1, 2, 3]}}
    one = study("random", axes=axes)
    points = [point for point in (one.ask(number) for number in range(7)) if point]
    assert all(point["params.first"] <= point["params.levels"] for point in points)
    assert len(points) == 6
    assert one.refused > 0


def test_what_only_a_look_at_the_data_tells_may_refuse_points_too():
    def fits(point: dict[str, float]) -> None:
        if point["params.gamma"] < 2:
            raise JobError("no")

    one = Study(space(), JOB, GOALS, Rules("random", "none", 1, 0), fits)
    points = [one.ask(number) for number in range(1, 9)]
    assert all(point["params.gamma"] >= 2 for point in points)
    assert one.refused > 0


def test_a_space_in_which_nothing_fits():
    one = study("random", axes={"params.first": {"choice": [3]}, "params.levels": {"choice": [1, 2]}})
    one.ask(0)
    with pytest.raises(JobError, match=r"points in a row do not fit the method, the last: .*first: got 3"):
        one.ask(1)


@pytest.mark.parametrize("stopper", ["asha", "median"])
def test_what_lags_behind_is_stopped_and_what_leads_is_not(stopper):
    one = study(stopper=stopper)
    for number in range(8):
        one.ask(number)
        stops = [one.report(number, round_, 0.5 + 0.05 * number) for round_ in range(1, 10)]
        assert not any(stops)  # each is better than those before
        one.finish(number, (0.5 + 0.05 * number,))
    one.ask(8)
    assert [one.report(8, round_, 0.1) for round_ in (1, 2, 3)].index(True) <= 1


def test_rounds_of_grace_and_the_job_itself_are_never_stopped():
    one = study(stopper="asha", grace=4)
    for number in range(6):
        one.ask(number)
        assert not one.report(number, 1, 0.9 - 0.1 * number)
    first = study(stopper="median", grace=1)
    for number in range(1, 7):
        first.ask(number)
        first.report(number, 1, 0.9)
        first.report(number, 2, 0.9)
        first.finish(number, (0.9,))
    first.ask(0)
    assert not any(first.report(0, round_, 0.1) for round_ in (1, 2, 3))


def test_less_may_be_better():
    one = study(stopper="asha", goals=(Objective("image_auroc", "min"),))
    for number in range(6):
        one.ask(number)
        assert not any(one.report(number, round_, 0.9 - 0.1 * number) for round_ in (1, 2, 3))
    one.ask(6)
    assert one.report(6, 1, 0.9)


def test_what_mattered():
    one = study("random")
    assert one.importance() == {}
    played(one, 25)
    found = one.importance()
    assert max(found, key=lambda key: found[key]) == "params.gamma"
    assert sum(found.values()) == pytest.approx(1)


def test_several_objectives_are_told_and_nothing_is_stopped():
    one = study(goals=(Objective("image_auroc", "max"), Objective("ms_per_image", "min")))
    for number in range(12):
        point = one.ask(number)
        assert not one.report(number, 1, 0.0)
        one.finish(number, (goodness(point), 1.0))
    assert one.importance()
