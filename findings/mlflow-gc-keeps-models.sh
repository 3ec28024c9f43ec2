# `mlflow gc` of a deleted run or experiment says "permanently deleted" and keeps the model's files; after the experiment MLflow cannot delete them any more.
#
# Expected: delete_run and delete_experiment, then gc, free the storage: gc's help says that it deletes models, too.
# Happens:  since MLflow 3 a model does not lie under its run. gc of the run removes the run's artifacts and leaves the model; gc
#           of the experiment also removes the model's row, and then delete_logged_model says "not found" while its files are
#           still there. The right order is delete_logged_model, then gc, before the run or the experiment goes.
# Versions: mlflow 3.17.2 on SQLite with a folder for artifacts. gc of models that were deleted themselves came with
#           https://github.com/mlflow/mlflow/pull/17282
# Hurts:    a service that retrains every night and tidies up by deleting old runs keeps every memory bank that it ever made,
#           hundreds of megabytes each, in a bucket that only grows; only the folder's name tells what may go.
# adjobs:   deletes no runs. To tidy up, delete the logged models of a run first, and only those no registered version
#           points to.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile 'mlflow==3.17.2'
cd "$work"
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_TRACKING_URI="sqlite:///$work/mlflow.db"
HOME=$work venv/bin/python -W ignore - 2>"$work/log" <<'PYTHON' || { tail -n 20 "$work/log"; exit 1; }
import contextlib
import io
from pathlib import Path

import mlflow
from mlflow.cli import cli
from mlflow.exceptions import MlflowException


def check(what, seen, known):
    print(f"{what}: {seen}", flush=True)
    if seen != known:
        raise SystemExit(f"changed: it was {known}")


print("mlflow", mlflow.__version__, flush=True)
client = mlflow.MlflowClient()
Path("weights.bin").write_bytes(bytes(1000))


def trained(experiment):
    """A run with an artifact and a logged model with weights."""
    run = client.create_run(experiment).info.run_id
    client.log_artifact(run, "weights.bin", "figures")
    model = client.create_logged_model(experiment, name="detector", source_run_id=run).model_id
    client.log_model_artifact(model, "weights.bin")
    client.finalize_logged_model(model, "READY")
    client.set_terminated(run)
    return run, model


def collect():
    with contextlib.redirect_stdout(io.StringIO()) as said:
        cli.main(["gc", "--backend-store-uri", mlflow.get_tracking_uri()], standalone_mode=False)
    print("  mlflow gc:", said.getvalue().strip().replace("\n", " "), flush=True)


def files(name):
    """How many copies of the weights lie in folders of this run or model."""
    return sum(name in path.parts for path in Path("mlruns").rglob("weights.bin"))


def can_delete(model):
    try:
        client.delete_logged_model(model)
    except MlflowException as error:
        return str(error).replace(model, "m-…")
    return True


experiment = client.create_experiment("line-3", artifact_location=Path("mlruns/line-3").absolute().as_uri())
run, model = trained(experiment)
second_run, second_model = trained(experiment)
check("before: files of the run and of its model", (files(run), files(model)), (1, 1))
client.delete_run(run)
collect()
check("run deleted, gc: files of the run and of its model", (files(run), files(model)), (0, 1))

check("right order: the logged model can be deleted", can_delete(second_model), True)
collect()
check("model deleted, gc: files of the other run and of its model", (files(second_run), files(second_model)), (1, 0))

client.delete_experiment(experiment)
collect()
check("experiment deleted, gc: files of the first model", files(model), 1)
check("and it can be deleted", can_delete(model), "Logged model with ID 'm-…' not found.")
collect()
check("gc once more: files of the first model", files(model), 1)
PYTHON
