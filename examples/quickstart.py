"""adjobs as a library, cell by cell: train on a drawn data set, predict images, choose another threshold.

Run it as a script (``python examples/quickstart.py``, about a minute on two cores), or cell by cell in an editor that knows
``# %%``. No service is needed: the run is kept in a folder.
"""

# %% Trays with six parts, of which some are missing, doubled, swapped, scratched or stained.
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import adjobs
from adjobs.config.environment import load_settings
from adjobs.jobs.recalibrate import recalibrate
from adjobs.metrics.policies import ThresholdPolicy
from adjobs.tracking.runs import find_run

DATA = Path(sys.argv[1] if len(sys.argv) > 1 else "quickstart-data")
SIDE = 64
if not DATA.exists():
    subprocess.run([sys.executable, str(Path(__file__).with_name("scenes.py")), str(DATA), "--size", str(SIDE)], check=True)

# %% Train. The first argument may also be the path of a job file; ``overrides`` are those of ``adjobs train --set``.
result = adjobs.train(
    {"method": "cdo", "data": {"uri": str(DATA), "image_size": SIDE}, "track": "none"},
    overrides=["params.backbone=resnet18", "params.weights=none", "params.epochs=2", "params.batch_size=4"],
)
print(f"test image AUROC {result.metrics['test/image_auroc']:.3f}, {result.seconds:.0f} s")
print(f"threshold {result.evaluation.thresholds.image.describe()}")

# %% Load the detector. A run id, a models:/ URI or a folder will do.
detector = adjobs.load_detector(result.model)

# %% Predict a file, an array, several at once.
path = min((DATA / "test").rglob("*.png"))
prediction = detector(path)
print(path.name, prediction.decision, f"{prediction.score:.4g}", prediction.regions)
array = np.asarray(Image.open(path))
assert detector(array).score == prediction.score
print([each.decision for each in detector([path, array, Image.open(path), path.read_bytes()])])

# %% Choose another threshold on the run's validation images, without training; ``adjobs threshold`` does the same.
settings = load_settings()
changed = recalibrate(find_run(settings.tracking_uri, settings.home, result.run_id), settings, ThresholdPolicy("max_f1"))
print(f"threshold {detector.threshold:.4g} -> {changed.new['value']:.4g}: {changed.new['meaning']}")
for name, change in changed.test.items():
    print(f"test {name}: {change.before} -> {change.after}")
detector = adjobs.load_detector(changed.model)
print(path.name, detector(path).decision, f"threshold {detector.threshold:.4g}")
