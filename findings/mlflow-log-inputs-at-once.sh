# Of runs that start together and log the same new data set, most fail with an IntegrityError of the database.
#
# Expected: runs of one experiment share a data set, which name and digest identify, so that each of them can log it.
# Happens:  MLflow looks for the data set and adds it if it is missing, in one transaction without a lock and without a second
#           attempt. Of runs that look at the same moment all but one raise MlflowException (IntegrityError, UNIQUE constraint
#           failed: datasets.experiment_id, datasets.name, datasets.digest). The same call a moment later succeeds.
# Versions: mlflow 3.17.2 on SQLite.
# Hurts:    those who start several trainings on one data set at once, as hyperparameter searches and schedulers do: the
#           first jobs of a new data set fail at random before they have trained a step.
# adjobs:   calls log_inputs a second time if the database reports a duplicate.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile 'mlflow==3.17.2'
cd "$work"
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_TRACKING_URI="sqlite:///$work/mlflow.db"
cat >together.py <<'PYTHON'
import multiprocessing
from pathlib import Path

import mlflow
from mlflow.entities import Dataset, DatasetInput
from mlflow.exceptions import MlflowException

RUNS, DATA_SETS = 4, 10


def check(what, seen, known):
    print(f"{what}: {seen}", flush=True)
    if seen != known:
        raise SystemExit(f"changed: it was {known}")


def log(experiment, barrier, queue):
    """One run for each data set, which all processes log at the same moment."""
    client = mlflow.MlflowClient()
    errors = []
    for number in range(DATA_SETS):
        run = client.create_run(experiment).info.run_id
        inputs = [DatasetInput(Dataset("line-3", f"digest-{number}", "local", "images"))]
        barrier.wait()
        try:
            client.log_inputs(run, inputs)
        except MlflowException as error:
            client.log_inputs(run, inputs)  # raises nothing
            errors.append(str(error))
    queue.put(errors)


if __name__ == "__main__":
    print("mlflow", mlflow.__version__, flush=True)
    experiment = mlflow.MlflowClient().create_experiment("line-3", artifact_location=Path("runs").absolute().as_uri())
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(RUNS), context.Queue()
    processes = [context.Process(target=log, args=(experiment, barrier, queue)) for _ in range(RUNS)]
    for process in processes:
        process.start()
    errors = [error for _ in processes for error in queue.get(timeout=120)]
    for process in processes:
        process.join()
    print(f"{len(errors)} of {RUNS * DATA_SETS} calls failed", flush=True)
    check("some calls fail", bool(errors), True)
    check("all for the same reason", all("UNIQUE constraint failed: datasets" in error for error in errors), True)
    check("a second call succeeds", [process.exitcode for process in processes], [0] * RUNS)
PYTHON
HOME=$work venv/bin/python -W ignore together.py 2>"$work/log" || { tail -n 20 "$work/log"; exit 1; }
