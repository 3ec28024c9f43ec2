"""What bfloat16 does to the scores of trained detectors on a processor. Prints a table and keeps it in results/.

    python benchmarks/half_precision.py --detector NAME FOLDER IMAGES [--detector …] --trained TEXT [--count 200]

FOLDER holds a detector, IMAGES a folder of images as it was trained on, of which up to ``--count`` are drawn. OpenVINO predicts
them in float32 and in bfloat16. Decisions are those of the detector's threshold; nothing is chosen by these images. TEXT tells
readers of the page how the detectors were trained.
"""

from __future__ import annotations

import argparse
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from report import machine, table, write_result

from adjobs.data.images import stretch
from adjobs.inference.engine_openvino import OpenVINOEngine
from adjobs.inference.inputs import find_images
from adjobs.inference.torch_detector import TorchDetector

NEAREST = 10  # images whose scores are nearest to the threshold
HEAD = (
    "| detector | images | anomalous | threshold | middle half of normal scores | difference, median | largest "
    f"| largest of the {NEAREST} nearest to the threshold | decisions changed |"
)


def row(name: str, folder: Path, images: Path, count: int) -> list[str]:
    """Scores of one detector in both precisions."""
    detector = TorchDetector.load(folder, "cpu", "torch")
    paths = find_images([images]).images
    drawn = np.random.default_rng(0).permutation(len(paths))[:count]
    size = detector.manifest.image_size
    pixels = np.stack([stretch(detector.read_image(paths[i]).image, size) for i in sorted(drawn)])
    exact, rounded = (OpenVINOEngine.of(detector.method, size, precision).predict(pixels).score for precision in ("f32", "bf16"))
    difference = np.abs(rounded - exact)
    anomalous = exact >= detector.threshold
    nearest = np.argsort(np.abs(exact - detector.threshold))[:NEAREST]
    low, high = np.quantile(exact[~anomalous], [0.25, 0.75])
    return [
        name,
        str(len(exact)),
        str(anomalous.sum()),
        f"{detector.threshold:.4g}",
        f"{low:.3g} to {high:.3g}",
        f"{np.median(difference):.3g}",
        f"{difference.max():.3g}",
        f"{difference[nearest].max():.3g}",
        str((anomalous != (rounded >= detector.threshold)).sum()),
    ]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--detector", nargs=3, action="append", required=True, metavar=("NAME", "FOLDER", "IMAGES"), help="what to predict with"
    )
    parser.add_argument("--trained", required=True, metavar="TEXT", help="how the detectors were trained")
    parser.add_argument("--count", type=int, default=200, help="most images of each folder")
    arguments = parser.parse_args()
    rows = [row(name, Path(folder), Path(images), arguments.count) for name, folder, images in arguments.detector]
    write_result(
        "half-precision-cpu",
        "Scores in bfloat16 on a processor",
        f"{machine(torch.device('cpu'))}, openvino {version('openvino')}",
        [
            f"Scores of detectors by OpenVINO in float32, and their differences in bfloat16. {arguments.trained}",
            table(HEAD, rows),
        ],
    )


if __name__ == "__main__":
    main()
