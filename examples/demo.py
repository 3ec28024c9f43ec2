"""One real job from pictures to decisions, by the commands that README.md shows: up, train, predict."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OUT = ROOT / "demo-out"
PICTURES = 24


def adjobs(*arguments: str) -> dict[str, Any]:
    """Run a verb with ``--json``; progress goes to the terminal. Exits with the verb's status when it fails."""
    shown = arguments[:6] + ("...",) * (len(arguments) > 6)
    print("$ adjobs", *shown, file=sys.stderr, flush=True)
    done = subprocess.run([Path(sys.executable).with_name("adjobs"), *arguments, "--json"], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    """Run the demo and print what came out."""
    adjobs("up")
    summary = adjobs("train", str(ROOT / "examples" / "elpv.yaml"))
    test = sorted(unseen(summary))
    pictures = test[:: max(1, len(test) // PICTURES)][:PICTURES]
    adjobs("predict", "--model", summary["run_id"], "--out", str(OUT), *pictures)

    from adjobs.cli.train import describe

    print()
    print(describe(summary))
    print(f"pictures    {len(pictures)} test cells with their heat maps in {OUT}")
    print("'adjobs status' shows what runs where; 'adjobs down' stops it")


def unseen(summary: dict[str, Any]) -> list[str]:
    """Files of the run's test part, which training has not seen."""
    import mlflow

    from adjobs.config.environment import load_settings
    from adjobs.data.open import open_dataset

    settings = load_settings()
    mlflow.set_tracking_uri(settings.tracking_uri)
    test = set(mlflow.artifacts.load_dict(f"runs:/{summary['run_id']}/split.json")["test"])
    return [str(sample.image) for sample in open_dataset("elpv", cache=settings.cache).samples if sample.id in test]


if __name__ == "__main__":
    main()
