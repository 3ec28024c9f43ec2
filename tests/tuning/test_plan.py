"""What is decided and refused before a search starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from adjobs.config.resolve import resolve
from adjobs.errors import JobError
from adjobs.tuning.objective import parse_objectives
from adjobs.tuning.plan import (
    SearchOptions,
    VariantImages,
    data_key,
    find_leak,
    make_plan,
    prepare_variants,
    resumed_options,
)
from adjobs.tuning.space import parse_space, read_space
from adjobs.tuning.study import SearchConfig
from tests.helpers.jobs import local_settings, resolved_job
from tests.helpers.search import SPACE

GRID = parse_space({"method": "cdo", "parameters": {"params.mom": {"choice": [True, False]}}}, "space")


def test_find_leak_names_variants_that_share_test_images():
    one, other = VariantImages("a", frozenset("xy"), frozenset("z")), VariantImages("b", frozenset("x"), frozenset("yz"))
    assert find_leak([one, other]) == "with a, 1 images train or validate that are test images with b"
    assert find_leak([one, VariantImages("c", frozenset("x"), frozenset("z"))]) is None


def test_data_key_leaves_out_what_does_not_change_data_and_splits(folder_root):
    key = data_key(resolved_job(folder_root))
    assert data_key(resolved_job(folder_root, image_size=64, label_detail="image", block_size=4)) == key
    assert data_key(resolved_job(folder_root, seed=1)) != key


def test_make_plan_decides_what_is_left_open(folder_root, tmp_path):
    plan = make_plan(resolved_job(folder_root), SPACE, SearchOptions(), local_settings(tmp_path))
    assert plan.config == SearchConfig("tpe", "asha", 3, 0)
    assert (plan.trials, plan.max_concurrent) == (30, None)
    assert plan.options() == SearchOptions(("image_auroc:max",), pruner="asha", trials=30)
    assert resumed_options(plan.options().to_dict(), trials=None, max_concurrent=None) == plan.options()
    changed = resumed_options(plan.options().to_dict(), trials=40, max_concurrent=2)
    assert (changed.trials, changed.max_concurrent) == (40, 2)


def test_make_plan_starts_with_the_job_as_it_will_be_trained(folder_root, tmp_path):
    """What the data decide is decided before, so that the job is a point of a space that varies it."""
    job, space = resolved_job(folder_root), read_space(Path(__file__).parents[2] / "tune_spaces" / "cdo.yaml")
    assert space.params_of(job) is None
    plan = make_plan(job, space, SearchOptions(), local_settings(tmp_path))
    params = space.params_of(plan.job)
    assert params is not None
    assert params["params.distance"] == "mahalanobis"


@pytest.mark.parametrize(
    ("varied", "score"), [(["score"], "combined"), (["pretrain"], "auto"), (["pretrain", "score"], "combined")]
)
def test_make_plan_leaves_open_what_is_a_question_in_some_trials_only(varied, score, folder_root, tmp_path):
    choices = {"score": ["combined", "network"], "pretrain": ["backbone", "gpt"]}
    parameters = {f"params.{name}": {"choice": choices[name]} for name in varied}
    space = parse_space({"method": "slsg", "parameters": parameters}, "space")
    job = resolve({"method": "slsg", "data": {"uri": str(folder_root)}})
    plan = make_plan(job, space, SearchOptions(), local_settings(tmp_path))
    assert plan.job.params["score"] == score
    if score == "auto":
        settled = {name: plan.prepare({"params.pretrain": name}).job.params["score"] for name in choices["pretrain"]}
        assert settled == {"backbone": "combined", "gpt": "network"}


@pytest.mark.parametrize(("train", "cpus"), [({}, 1), ({"cpus_per_worker": 4}, 4), ({"workers": 2}, "auto")])
def test_make_plan_trains_trials_and_the_best_with_the_same_processors(train, cpus, folder_root, tmp_path):
    job = resolved_job(folder_root)
    job = job.model_copy(update={"train": job.train.model_copy(update=train)})
    plan = make_plan(job, SPACE, SearchOptions(), local_settings(tmp_path))
    assert plan.job.train.cpus_per_worker == cpus


@pytest.mark.parametrize("metrics", [("ms_per_image",), ("image_auroc", "image_ap")])
def test_make_plan_does_not_prune_by_late_or_several_objectives(metrics, folder_root, tmp_path):
    job, settings = resolved_job(folder_root), local_settings(tmp_path)
    assert make_plan(job, SPACE, SearchOptions(metrics), settings).config.pruner == "none"
    with pytest.raises(JobError, match=r"--pruner median: .*; give --pruner none"):
        make_plan(job, SPACE, SearchOptions(metrics, pruner="median"), settings)


def test_make_plan_grid_has_as_many_trials_as_combinations(folder_root, tmp_path):
    job, settings = resolved_job(folder_root), local_settings(tmp_path)
    assert make_plan(job, GRID, SearchOptions(sampler="grid", trials=9), settings).trials == 2
    with pytest.raises(JobError, match="--trials: got 1, the grid has 2 points"):
        make_plan(job, GRID, SearchOptions(sampler="grid", trials=1), settings)


def test_make_plan_job_without_tracking_is_refused(tmp_path):
    job = resolve({"method": "cdo", "data": {"uri": "images"}, "track": "none"})
    with pytest.raises(JobError, match="track: got none, a search is recorded in MLflow"):
        make_plan(job, SPACE, SearchOptions(), local_settings(tmp_path))


def test_plan_prepares_each_trial_once(folder_root, tmp_path):
    plan = make_plan(resolved_job(folder_root), SPACE, SearchOptions(), local_settings(tmp_path))
    prepared = plan.prepare({"params.gamma": 1.5})
    assert prepared.job.params["gamma"] == 1.5
    assert plan.prepare({"params.gamma": 1.5}) is prepared
    assert prepared.data is next(iter(plan.data.values()))


def test_prepare_variants_fixed_by_the_warm_start_are_refused(tmp_path):
    job = resolve({"method": "semirest", "data": {"uri": "images"}, "params": {"unsupervised_from": "runs:/1"}})
    keys = ("params.position_weight", "params.gamma", "data.image_size")
    parameters = {key: {"choice": [128] if key == "data.image_size" else [1, 2]} for key in keys}
    space = parse_space({"method": "semirest", "parameters": parameters}, "space")
    message = "params.position_weight, data.image_size must be as in params.unsupervised_from 'runs:/1'; remove them"
    with pytest.raises(JobError, match=message):
        prepare_variants(space, job, (), local_settings(tmp_path))


def test_prepare_variants_of_the_data_section_are_split_once_each(folder_root, tmp_path):
    job = resolved_job(folder_root)
    parameters = {"data.image_size": {"choice": [64, 128]}, "data.max_train_anomalies": {"choice": [1, 2]}}
    space = parse_space({"method": "cdo", "parameters": parameters}, "space")
    variants = prepare_variants(space, job, parse_objectives((), job), local_settings(tmp_path))
    assert len(variants) == 3  # the job's own, and two numbers of anomalies
    assert next(iter(variants)) == data_key(job)
