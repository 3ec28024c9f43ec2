# Ray Tune's ASHA lets a trial whose metric became NaN run to the end, while it stops sound trials that are merely worse than others.
#
# Expected: a trial that diverged is the first to be stopped.
# Happens:  at a rung ASHA stops what is below a percentile of the others, and NaN is below nothing. Of eight trials, one at a
#           time, the five sound ones after the best are stopped at the first rung, those with NaN get all 16 rounds.
# Versions: ray 2.60.0. Optuna's pruners do prune NaN.
# Hurts:    distances, likelihood ratios and flows diverge at some learning rates. A night's search gives most rounds to trials
#           that are lost, since they are never cut short.
# adjobs:   ends a training whose loss is not finite, and searches with Optuna's pruners. With Ray's schedulers, give a stop
#           function that looks at the metric, as below.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile 'ray[tune]==2.60.0'
cd "$work"
unset RAY_ADDRESS RAY_API_SERVER_ADDRESS
export RAY_AUTH_MODE=disabled RAY_USAGE_STATS_ENABLED=0 RAY_AIR_NEW_OUTPUT=0
export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 # every socket on 127.0.0.1
HOME=$work venv/bin/python -W ignore - 2>"$work/log" <<'PYTHON' || { tail -n 20 "$work/log"; exit 1; }
import math
from pathlib import Path

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

ROUNDS = 16


def check(what, seen, known):
    print(f"{what}: {seen}", flush=True)
    if seen != known:
        raise SystemExit(f"changed: it was {known}")


def train(config):
    """An AUROC that stays as it is, or becomes NaN in the second round."""
    for round_ in range(1, ROUNDS + 1):
        tune.report({"auroc": math.nan if config["diverges"] and round_ > 1 else config["auroc"]})


def search(stop=None):
    """Rounds of each trial, best first, and whether it diverges."""
    trials = [{"auroc": 0.9 - number / 20, "diverges": number in (2, 6)} for number in range(8)]
    results = tune.Tuner(
        tune.with_resources(lambda config: train(config["trial"]), {"cpu": 1}),
        param_space={"trial": tune.grid_search(trials)},
        tune_config=tune.TuneConfig(
            scheduler=ASHAScheduler(metric="auroc", mode="max", max_t=ROUNDS, grace_period=2, reduction_factor=2),
            max_concurrent_trials=1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(storage_path=str(Path("results").absolute()), verbose=0, stop=stop),
    ).fit()
    rounds = {}
    for one in results:
        trial = one.config["trial"]
        rounds[("NaN " if trial["diverges"] else "") + f"{trial['auroc']:.2f}"] = one.metrics["training_iteration"]
    return rounds


print("ray", ray.__version__, flush=True)
ray.init(
    address="local",
    num_cpus=2,
    include_dashboard=False,
    object_store_memory=100_000_000,
    log_to_driver=False,
    _temp_dir=str(Path("ray").absolute()),
)
sound = {"0.90": 16, "0.85": 2, "NaN 0.80": 16, "0.75": 2, "0.70": 2, "0.65": 2, "NaN 0.60": 16, "0.55": 2}
check("rounds of each trial under ASHA", search(), sound)
check(
    "with a stop function that looks at the metric",
    search(lambda trial, result: not math.isfinite(result["auroc"])),
    sound | {"NaN 0.80": 2, "NaN 0.60": 2},
)
ray.shutdown()
PYTHON
