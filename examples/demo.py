"""One real job from images to decisions: start the embedded stack, train on its Ray, predict test images."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import adjobs
from adjobs.cli.train import describe
from adjobs.config.environment import load_settings
from adjobs.data.dataset import Sample
from adjobs.data.open import open_dataset
from adjobs.errors import AdjobsError, Stopped
from adjobs.jobs.result import TrainResult
from adjobs.metrics.policies import ThresholdPolicy
from adjobs.tracking.layout import RunRef
from adjobs.tracking.lookup import SHORT_ID
from adjobs.tracking.runs import open_reader

JOB = Path(__file__).with_name("elpv.yaml")
OUT = Path(__file__).parents[1] / "demo-out"
IMAGES = 24  # about as many test images are predicted


def main() -> None:
    """Run the demo and print what it resulted in."""
    up = subprocess.Popen([sys.executable, "-m", "adjobs", "up"], stdout=sys.stderr)
    importlib.import_module("adjobs.jobs.predict")  # with PyTorch, which takes seconds, while the services start

    if up.wait():
        sys.exit(up.returncode)
    try:
        result = adjobs.train(JOB, backend="ray")
        test = test_samples(result)
        page, sentence = draw_sheet(result, test[:: max(1, len(test) // IMAGES)][:IMAGES], OUT)
    except (AdjobsError, Stopped) as error:
        sys.exit(str(error))
    print()
    print(describe(result))
    print(f"look at it  {page.as_uri()}: {sentence}")
    print(f"sensitivity {explain(result)}")
    print("'adjobs status' shows what runs where; 'adjobs down' stops it")


def test_samples(result: TrainResult) -> list[Sample]:
    """The run's test images, which training has not seen, sorted."""
    stored = open_reader(RunRef(result.tracking_uri, result.run_id)).stored_run()
    data = stored.job.data
    dataset = open_dataset(data.uri, data.format, cache=load_settings().cache, options=data.read_options)
    ids = set(stored.split.test)
    return sorted((sample for sample in dataset.samples if sample.id in ids), key=lambda sample: sample.image)


def draw_sheet(result: TrainResult, samples: Sequence[Sample], out: Path) -> tuple[Path, str]:
    """Predict images; returns the page that shows them beside their anomaly maps and labels, and its totals in words."""
    from adjobs.inference.truth import Truth
    from adjobs.jobs.predict import PredictOptions, predict_batch

    truth = {str(sample.image): Truth(sample.label == "anomalous", sample.defect) for sample in samples}
    predicted = predict_batch(result.model, list(truth), out, load_settings(), PredictOptions(truth=truth))
    return Path(predicted.page).absolute(), predicted.labelled.sentence()


def explain(result: TrainResult) -> str:
    """What the model detects at its threshold, why not more, and what to do about it."""
    recall, specificity = (result.evaluation.estimates[f"test/image_{name}"] for name in ("recall", "specificity"))
    if recall.value is None or specificity.value is None:
        return "without anomalous and normal test images nothing is known of it"
    policy, auroc = result.evaluation.thresholds.image, result.metrics.get("test/image_auroc")
    interval = ""
    if recall.low is not None and recall.high is not None:
        interval = f" (95 % interval {100 * recall.low:.0f} to {100 * recall.high:.0f} %)"
    threshold = ThresholdPolicy(policy.policy, policy.requested)
    return (
        f"it detects {100 * recall.value:.0f} % of the anomalous test images{interval} with false alarms on "
        f"{100 * (1 - specificity.value):.1f} % of the normal ones: its threshold ({threshold}) allows few, and a training this "
        f"short separates the two only so far (AUROC {auroc:.3f}). For more detections, and more false alarms: adjobs threshold "
        f"{result.run_id[:SHORT_ID]} --policy miss_cost --value 20"
    )


if __name__ == "__main__":
    main()
