"""One real job from images to decisions: start the embedded stack, train on its Ray, predict test images."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import adjobs
from adjobs.cli.train import describe
from adjobs.config.environment import load_settings
from adjobs.data.open import open_dataset
from adjobs.errors import AdjobsError, Stopped
from adjobs.jobs.result import TrainResult
from adjobs.tracking.layout import RunRef
from adjobs.tracking.runs import open_reader

JOB = Path(__file__).with_name("elpv.yaml")
OUT = Path(__file__).parents[1] / "demo-out"
IMAGES = 24  # about as many test images are predicted


def main() -> None:
    """Run the demo and print what it resulted in."""
    up = subprocess.Popen([sys.executable, "-m", "adjobs", "up"], stdout=sys.stderr)
    from adjobs.inference.files import predict_files  # with PyTorch, which takes seconds, while the services start

    if up.wait():
        sys.exit(up.returncode)
    try:
        result = adjobs.train(JOB, backend="ray")
        test = test_images(result)
        predictions = list(predict_files(adjobs.load_detector(result.model), test[:: max(1, len(test) // IMAGES)][:IMAGES], OUT))
    except (AdjobsError, Stopped) as error:
        sys.exit(str(error))
    print()
    print(describe(result))
    print(f"images      {len(predictions)} test cells with their anomaly maps in {OUT}")
    print("'adjobs status' shows what runs where; 'adjobs down' stops it")


def test_images(result: TrainResult) -> list[Path]:
    """Files of the run's test split, which training has not seen, sorted."""
    stored = open_reader(RunRef(result.tracking_uri, result.run_id)).stored_run()
    data = stored.job.data
    dataset = open_dataset(data.uri, data.format, cache=load_settings().cache, options=data.read_options)
    ids = set(stored.split.test)
    return sorted(sample.image for sample in dataset.samples if sample.id in ids)


if __name__ == "__main__":
    main()
