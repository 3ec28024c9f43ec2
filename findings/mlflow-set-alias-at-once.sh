# Of clients that set the same new alias or tag of a registered model together, some fail with an IntegrityError of the database.
#
# Expected: setting an alias or a tag replaces what was there; of several clients that do so at once, the last one's value stays.
# Happens:  MLflow looks for the row and adds it if it is missing, in one transaction without a lock and without a second attempt.
#           Of clients that look at the same moment all but one raise MlflowException (IntegrityError, UNIQUE constraint failed:
#           registered_model_aliases, or registered_model_tags): about one call in six of four clients that start together.
#           The same call a moment later succeeds.
# Versions: mlflow 3.17.2 on SQLite.
# Hurts:    pipelines that promote a first model at the same time, or tag one: some of them fail after a training that went well.
# adjobs:   sets an alias or a tag a second time if the database reports a duplicate.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile 'mlflow==3.17.2'
cd "$work"
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_TRACKING_URI="sqlite:///$work/mlflow.db"
cat >together.py <<'PYTHON'
import multiprocessing

import mlflow
from mlflow.exceptions import MlflowException

CLIENTS, ROUNDS = 4, 10


def check(what, seen, known):
    print(f"{what}: {seen}", flush=True)
    if seen != known:
        raise SystemExit(f"changed: it was {known}")


def set_both(barrier, queue):
    """In each round all processes set the same new alias, then the same new tag."""
    client = mlflow.MlflowClient()
    errors = {"aliases": [], "tags": []}
    for number in range(ROUNDS):
        for kind, call in (
            ("aliases", lambda: client.set_registered_model_alias("line-3", f"alias-{number}", "1")),
            ("tags", lambda: client.set_registered_model_tag("line-3", f"tag-{number}", "x")),
        ):
            barrier.wait()
            try:
                call()
            except MlflowException as error:
                call()  # raises nothing
                errors[kind].append(str(error))
    queue.put(errors)


if __name__ == "__main__":
    print("mlflow", mlflow.__version__, flush=True)
    client = mlflow.MlflowClient()
    client.create_registered_model("line-3")
    client.create_model_version("line-3", "s3://models/1")
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(CLIENTS), context.Queue()
    processes = [context.Process(target=set_both, args=(barrier, queue)) for _ in range(CLIENTS)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    for kind in ("aliases", "tags"):
        errors = [error for result in results for error in result[kind]]
        print(f"{kind}: {len(errors)} of {CLIENTS * ROUNDS} calls failed", flush=True)
        check("some calls fail", bool(errors), True)
        expected = f"UNIQUE constraint failed: registered_model_{kind}"
        check("all for the same reason", all(expected in error for error in errors), True)
    check("a second call succeeds", [process.exitcode for process in processes], [0] * CLIENTS)
PYTHON
HOME=$work venv/bin/python -W ignore together.py 2>"$work/log" || { tail -n 20 "$work/log"; exit 1; }
