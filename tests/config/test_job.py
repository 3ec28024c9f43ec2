"""The job file: defaults, overrides, and all problems at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adjobs.config.resolve import override, read_job, resolve
from adjobs.errors import JobError

JOB = {"method": "cdo", "data": {"uri": "elpv"}}


def test_resolve_fills_in_defaults_of_method_and_threshold():
    job = resolve(JOB)
    assert job.params["gamma"] == 2.0
    assert (job.threshold.policy, job.threshold.value) == ("max_fpr", 0.01)


def test_resolve_fills_in_false_alarm_rates_and_keeps_a_null_pixel_policy():
    job = resolve({**JOB, "threshold": {"policy": "max_fpr", "strict": True}, "pixel_threshold": {"policy": "max_fpr"}})
    assert (job.threshold.value, job.threshold.strict) == (0.01, True)
    assert (job.pixel_threshold.policy, job.pixel_threshold.value) == ("max_fpr", 0.001)
    default = resolve(JOB).pixel_threshold
    assert (default.policy, default.value) == (None, None)
    assert resolve({**JOB, "threshold": {"policy": "defect_ratio"}}).threshold.value is None


def test_resolve_pixel_policy_of_a_method_without_maps_is_refused(monkeypatch):
    from dataclasses import replace

    from adjobs import methods

    spec = replace(methods.spec("cdo"), gives_map=False)
    monkeypatch.setattr(methods, "spec", lambda name: spec)
    assert resolve(JOB).pixel_threshold.policy is None
    with pytest.raises(
        JobError, match="pixel_threshold: got policy max_f1, but cdo has no anomaly maps; leave pixel_threshold out"
    ):
        resolve({**JOB, "pixel_threshold": {"policy": "max_f1"}})


@pytest.mark.parametrize(
    ("workers", "counts"), [(3, (3,)), ([1, 4], (1, 2, 4)), ([2, 12], (2, 3, 4, 6, 12)), ([2, 2], (2,)), ((3, 6), (3, 6))]
)
def test_worker_counts_are_those_that_share_a_batch_of_the_largest_equally(workers, counts):
    train = resolve({**JOB, "train": {"workers": workers}}).train
    assert train.worker_counts == counts
    assert (train.min_workers, train.max_workers) == (counts[0], counts[-1])


def test_resolve_of_a_resolved_job_changes_nothing():
    import yaml

    sections = {
        "train": {"workers": [1, 2]},
        "threshold": {"policy": "max_fpr", "strict": True},
        "pixel_threshold": {"policy": "max_fpr"},
    }
    job = resolve({**JOB, "preset": "official", "params": {"gamma": 1}, **sections})
    assert resolve(yaml.safe_load(job.to_yaml())) == job


def test_resolve_user_params_override_the_preset():
    job = resolve({**JOB, "preset": "official", "params": {"lr": 0.5}})
    assert (job.params["lr"], job.params["batch_size"]) == (0.5, 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "cod"}, "unknown method 'cod'; available: .*; did you mean 'cdo'"),
        ({"trian": {}}, "trian: unknown key; available: .*; did you mean 'train'"),
        ({"data": {"ur": "x"}}, r"data\.uri: missing; folder, s3://.*data\.ur: unknown key; .*did you mean 'uri'"),
        ({"data": {"uri": "x", "image_size": 33}}, r"data\.image_size: got 33; must be a multiple of 32"),
        ({"data": 3}, "data: got 3; must be a section of keys and values"),
        ({"data": "elpv"}, "data: got 'elpv'; must be a section of keys and values"),
        ({"data": {"uri": ""}}, r"data\.uri: got ''; must not be empty"),
        ({"data": {"uri": "x", "seed": 1.0}}, r"data\.seed: got 1\.0; must be a whole number"),
        ({"data": {"uri": "x", "seed": True}}, r"data\.seed: got True; must be a whole number"),
        ({"data": {"uri": "x", "skip_invalid": "yes"}}, r"data\.skip_invalid: got 'yes'; must be true or false"),
        ({"data": {"uri": "x", "skip_invalid": 1}}, r"data\.skip_invalid: got 1; must be true or false"),
        ({"data": {"uri": "x", "bit_depth": 11}}, r"data\.bit_depth: got 11; must be .*'auto', 8, 10, 12, 14 or 16"),
        (
            {"data": {"uri": "x", "value_range": [5, 5]}},
            r"data: got value_range \[5, 5\]; give the value of black, then a larger one",
        ),
        ({"data": {"uri": "x", "value_range": [-1.5e308, 1.5e308]}}, r"data: got value_range .*; give the value of black"),
        ({"data": {"uri": "x", "value_range": [0]}}, r"data\.value_range"),
        (
            {"data": {"uri": "x", "value_range": [0, 5], "bit_depth": 12}},
            "data: got bit_depth and value_range; give one of the two",
        ),
        ({"data": {"uri": "x", "normal_classes": "ok"}}, r"data\.normal_classes: got 'ok'; must be a list"),
        ({"params": {"lr": "0.1"}}, r"params\.lr: got '0\.1'; must be a number"),
        ({"params": {"epochs": 2.0}}, r"params\.epochs: got 2\.0; must be a whole number"),
        ({"params": {"gama": 3}}, r"params\.gama: unknown key; did you mean 'gamma'"),
        ({"params": {"lr": -1}}, r"params\.lr: got -1; must be greater than 0"),
        ({"params": {"backbone": "vgg"}}, r"params\.backbone: got 'vgg'; must be .*hrnet_w32"),
        ({"preset": "papr"}, "unknown preset 'papr' of cdo; available: official, paper; did you mean 'paper'"),
        ({"train": {"workers": 0}}, r"train\.workers: got 0; must be a whole number from 1 to 1024, or two of them, of which"),
        ({"train": {"workers": [2, 1]}}, r"train\.workers: got \[2, 1\]; must be .* the second is a multiple of the first"),
        ({"train": {"workers": [0, 2]}}, r"train\.workers: got \[0, 2\]; must be"),
        ({"train": {"workers": [2, 3]}}, r"train\.workers: got \[2, 3\]; must be .*, such as \[1, 4\]"),
        ({"train": {"workers": [1]}}, r"train\.workers: got \[1\]; must be"),
        ({"train": {"workers": [1, 2.0]}}, r"train\.workers: got \[1, 2\.0\]; must be"),
        ({"train": {"workers": True}}, r"train\.workers: got True; must be"),
        ({"train": {"cpus_per_worker": 0}}, r"train\.cpus_per_worker: got 0; must be greater than or equal to 1"),
        ({"train": {"gpus_per_worker": -1}}, r"train\.gpus_per_worker: got -1; must be greater than or equal to 0"),
        ({"threshold": {"policy": "fixed"}}, "threshold: .*policy fixed: got value None, allowed is a finite number; set value"),
        ({"threshold": {"policy": "max_fpr", "value": 2}}, "threshold: .*policy max_fpr: got value 2.0, allowed is 0 or more"),
        ({"threshold": {"policy": "max_f1", "value": 2}}, "threshold: .*policy max_f1: got value 2.0, allowed is no value"),
        (
            {"threshold": {"policy": "miss_cost"}},
            "threshold: .*policy miss_cost: got value None, allowed is a finite number above 0",
        ),
        (
            {"threshold": {"policy": "defect_ratio", "value": 1}},
            "threshold: .*policy defect_ratio: got value 1.0, allowed is above 0",
        ),
        ({"threshold": {"policy": "max_f1", "strict": True}}, "threshold: .*strict=true, allowed with max_fpr only"),
        (
            {"threshold": {"policy": "max_fpr", "value": 0, "strict": True}},
            "threshold: .*a bound that no number of images reaches",
        ),
        ({"threshold": {"value": 2}}, r"threshold: policy max_fpr: got value 2\.0, allowed is 0 or more and below 1"),
        (
            {"threshold": {"policy": "best"}},
            r"threshold\.policy: got 'best'; must be 'fixed', 'max_f1', 'max_fpr', 'miss_cost' or 'defect_ratio'",
        ),
        ({"pixel_threshold": {"policy": "fixed"}}, "pixel_threshold: .*policy fixed: got value None"),
        ({"pixel_threshold": {"policy": "max_fpr", "value": 1}}, "pixel_threshold: .*policy max_fpr: got value 1.0"),
        ({"pixel_threshold": {"value": 0.1}}, "pixel_threshold: .*got value 0.1 without a policy; give a policy, or no value"),
        ({"pixel_threshold": {"strict": True}}, r"pixel_threshold\.strict: unknown key; available: policy, value"),
    ],
)
def test_resolve_mistake_names_the_value_and_what_is_allowed(change, message):
    with pytest.raises(JobError, match=message) as caught:
        resolve({**JOB, **change})
    assert "\n" not in str(caught.value)


def test_resolve_reports_all_problems_at_once():
    with pytest.raises(JobError) as caught:
        resolve({"method": "cdo", "data": {"uri": "x", "imgsize": 3}, "params": {"gama": 1}, "train": {"wokers": 2}})
    assert all(word in str(caught.value) for word in ("data.imgsize", "params.gama", "train.wokers"))


def test_resolve_reports_faults_of_thresholds_with_the_others():
    with pytest.raises(JobError) as caught:
        resolve(
            {
                "method": "cdo",
                "data": {"uri": ""},
                "params": {"epochs": 0},
                "threshold": {"value": 2},
                "pixel_threshold": {"policy": "fixed"},
            }
        )
    keys = ("data.uri: got ''", "params.epochs: got 0", "threshold: policy max_fpr: got value 2", "pixel_threshold: ")
    assert all(key in str(caught.value) for key in keys)


def test_resolve_more_problems_than_fit_a_line_are_counted():
    with pytest.raises(JobError, match=r"and \d+ more; fix these first$") as caught:
        resolve({**JOB, "params": {f"unknown_{i}": 1 for i in range(1000)}}, source="x" * 10_000)
    assert len(str(caught.value)) <= 1000


def test_resolve_whole_number_for_a_number_is_a_number():
    gamma = resolve({**JOB, "params": {"gamma": 3}}).params["gamma"]
    assert (gamma, type(gamma)) == (3.0, float)


def test_override_values_of_python_become_those_of_a_file():
    job = resolve(override({"method": "cdo", "data": {"uri": Path("images")}, "params": {"lr": np.float64(0.5)}}, ()))
    assert (job.data.uri, job.params["lr"]) == ("images", 0.5)
    with pytest.raises(JobError, match=r"^job: got <object object at .*, a object; must be text"):
        override({"method": object()}, ())


def test_override_values_are_yaml_and_keys_reach_into_sections():
    document = override(JOB, ["params.gamma=3", "data.max_train_anomalies=null", "train.workers=2", "data.uri=a=b"])
    assert document == {
        "method": "cdo",
        "data": {"uri": "a=b", "max_train_anomalies": None},
        "params": {"gamma": 3},
        "train": {"workers": 2},
    }
    assert JOB == {"method": "cdo", "data": {"uri": "elpv"}}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("gamma", "give key=value"),
        ("params..gamma=1", "give key=value"),
        (".".join(["a"] * 5000) + "=1", "give key=value"),
        ("params.gamma={a: 1, a: 2}", "key 'a' is given twice"),
        ("method.x=1", "'method' is a value, not a section"),
        ("params.x=[1", "the value is not valid YAML"),
    ],
)
def test_override_wrong_setting_is_refused(setting, message):
    with pytest.raises(JobError, match=message):
        override(JOB, [setting])


@pytest.mark.parametrize(
    ("text", "message"), [("a: [", "not valid YAML"), ("- 1", "got list; must be a mapping"), (None, "cannot be read")]
)
def test_read_job_wrong_file_is_refused(tmp_path, text, message):
    path = tmp_path / "job.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(JobError, match=message):
        read_job(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a: \xff", r"byte 4 is not UTF-8"), (b"a: \0", r"U\+0000"), (b" " * (2**20 + 1), "larger than 1 MiB")],
)
def test_read_job_binary_or_large_file_is_refused(tmp_path, content, message):
    (tmp_path / "job.yaml").write_bytes(content)
    with pytest.raises(JobError, match=message):
        read_job(tmp_path / "job.yaml")


def test_read_job_impossible_path_is_refused():
    with pytest.raises(JobError, match="cannot be read"):
        read_job(Path("a\0b"))


@pytest.mark.parametrize("change", [{"preset": ["paper"]}, {"params": {1: 2}}])
def test_resolve_values_of_other_types_are_refused_in_one_line(change):
    with pytest.raises(JobError) as error:
        resolve({"method": "cdo", "data": {"uri": "x"}, **change})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["line/3", "line:3", "line@3", "line?", " ", ".", "..", "../line", "x" * 257])
def test_resolve_model_name_that_mlflow_refuses_is_refused(name):
    with pytest.raises(
        JobError, match=r"^job: track\.model: got .*; (must not be blank, start with|string must have at most 256)"
    ):
        resolve({**JOB, "track": {"model": name}})


def test_resolve_model_name_with_spaces_and_letters_of_any_language_is_kept():
    assert resolve({**JOB, "track": {"model": "Gehäuse 2.1-b"}}).track.model == "Gehäuse 2.1-b"
