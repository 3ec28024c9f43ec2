"""What each element of CDO's distance is worth: one training, whose networks are then scored in several ways on validation.

    python benchmarks/cdo.py TILES elpv --runs DIR --set lr=0.001 --set epochs=10

Only the validation split is evaluated, since this table is there to choose by. The variants differ in whether the expert's
features keep their length, whether all levels share one Gaussian, whether the apprentice is used at all, in the number of
Gaussians and channels, in the scales, and in whether a position is compared with its own Gaussian or with the nearest normal
difference of any position. ``posed.py`` makes data on which these two differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from runs import describe_seeds, make_parser, mean_and_deviation, open_splits, run_seeds, write_table
from torch import Tensor, nn
from training import BenchmarkData, benchmark_job, train_locally

from adjobs.config.job import JobConfig
from adjobs.data.batches import TrainingData
from adjobs.evaluation.result import compute_pixel_metrics
from adjobs.methods.cdo.config import Config
from adjobs.methods.cdo.difference_bank import DifferenceBank
from adjobs.methods.cdo.differences import Differences, FeatureMaps, Reference, neighbourhood_means
from adjobs.methods.cdo.gaussian_stats import DifferenceStats
from adjobs.methods.cdo.model import CDO
from adjobs.methods.contract import TrainingImages
from adjobs.metrics import ranking
from adjobs.nn.blur import gaussian_blur
from adjobs.types import Prediction

STRIDE = 8  # pixels between neighbouring positions of the map that all levels are resized to, at least
BATCH = 16  # images over which means and covariances are accumulated at a time


class Variant(NamedTuple):
    """A way to score.

    Attributes:
        unit_length: normalise the expert's features.
        by_level: one Gaussian per level, whose distances are added.
        expert_only: score the expert's features, without an apprentice.
        grid: maximum number of Gaussians per side of the map.
        max_channels: of all levels; more are subsampled at random.
        nearest: distance to the nearest normal difference of any position, instead of Gaussians.
        scales: of Gaussians, whose distances are added: of a position by itself, or of the mean of 3 × 3 positions.
    """

    unit_length: bool = False
    by_level: bool = False
    expert_only: bool = False
    grid: int = 16
    max_channels: int = 200
    nearest: bool = False
    scales: tuple[Literal["position", "neighbourhood"], ...] = ("position",)


VARIANTS: dict[str, Variant | None] = {
    "as printed, eq. (10)": None,
    "each level in its own units, features of unit length": Variant(unit_length=True, by_level=True),
    "each level in its own units, in the expert's length": Variant(by_level=True),
    "all levels together, unit length": Variant(unit_length=True),
    "together, in the expert's length: mahalanobis": Variant(),
    "mahalanobis of the mean of 3 × 3 positions": Variant(scales=("neighbourhood",)),
    "mahalanobis, added to that of the mean of 3 × 3 positions": Variant(scales=("position", "neighbourhood")),
    "mahalanobis on the expert's features, without an apprentice": Variant(expert_only=True),
    "mahalanobis, squares of 2 × 2 positions share a Gaussian": Variant(grid=8),
    "mahalanobis, all positions share a Gaussian": Variant(grid=1),
    "mahalanobis, 100 channels drawn at random": Variant(max_channels=100),
    "nearest": Variant(nearest=True),
    "nearest on the expert's features, without an apprentice": Variant(nearest=True, expert_only=True),
}
METRICS = ("image_auroc", "pixel_ap", "au_pro")
HEAD = "| data | what scores | runs | val: image AUROC | pixel AP | AU-PRO |"


class NeighbourhoodStats(DifferenceStats):
    """The same of the mean difference of 3 × 3 positions."""

    def between(self, reference: Reference, apprentice: FeatureMaps) -> Tensor:
        """Mean differences ``(B, d, *size)``."""
        return neighbourhood_means(super().between(reference, apprentice))


class Rescored(nn.Module):
    """A trained CDO that scores in another way."""

    def __init__(self, method: CDO, variant: Variant, image_size: int, config: Config) -> None:
        super().__init__()
        self.method, self.variant = method, variant
        device = next(method.parameters()).device
        expert, _ = self._features(torch.zeros(1, 3, image_size, image_size, device=device))
        groups = [[maps] for maps in expert] if variant.by_level else [expert]
        self.stats = nn.ModuleList()
        for group in groups:
            height, width = (min(length, image_size // STRIDE) for length in group[0].shape[2:])
            channels = [maps.shape[1] for maps in group]
            if variant.nearest:
                bank = DifferenceBank(channels, (height, width), variant.max_channels, config.coreset_ratio, seed=0)
                self.stats.append(bank)
            else:
                shape = (channels, (height, width), variant.grid, variant.max_channels)
                for scale in variant.scales:
                    kind = DifferenceStats if scale == "position" else NeighbourhoodStats
                    self.stats.append(kind(*shape, config.shrinkage, seed=0))

    @torch.no_grad()
    def _features(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Both networks' feature maps, changed as the variant says."""
        expert, apprentice = self.method.features(images)
        if self.variant.unit_length:
            expert = [F.normalize(maps, dim=1) for maps in expert]
        if self.variant.expert_only:
            apprentice = [torch.zeros_like(maps) for maps in apprentice]
        return expert, apprentice

    def _grouped_features(self, images: Tensor) -> list[tuple[list[Tensor], list[Tensor]]]:
        """The feature maps of each Gaussian."""
        expert, apprentice = self._features(images)
        if self.variant.by_level:
            return [([e], [a]) for e, a in zip(expert, apprentice, strict=True)]
        return [(expert, apprentice)] * len(self.stats)

    def fit(self, data: TrainingImages) -> None:
        """Learn the differences on normal training images."""
        for i, stats in enumerate(self.stats):
            assert isinstance(stats, Differences)
            pairs = (self._grouped_features(batch.images)[i] for batch in data.normal(BATCH))
            stats.fit(((stats.reference(expert), apprentice) for expert, apprentice in pairs), data.n_normal)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Prediction:
        """Predict as CDO does; distances of several Gaussians are added."""
        size = images.shape[-2:]
        distances = [stats(*pair)[:, None] for stats, pair in zip(self.stats, self._grouped_features(images), strict=True)]
        maps = torch.stack([F.interpolate(d, size, mode="bilinear", align_corners=False) for d in distances]).sum(0)
        smooth = gaussian_blur(maps, self.method.config.sigma * min(size) / 256)
        return Prediction(smooth.flatten(1).amax(1), smooth)


def train(job: JobConfig, data: BenchmarkData, variants: Sequence[str]) -> dict[str, Any]:
    """Train, and score in these ways."""
    run = train_locally(job, data)
    method = run.detector.method
    assert isinstance(method, CDO)
    images = TrainingData(run.cache, data.dataset, data.split.train, run.device)
    metrics = {}
    for name in variants:
        variant, scored = VARIANTS[name], method
        if variant is not None:
            scored = Rescored(method, variant, job.data.image_size, method.config).to(run.device).eval()
            scored.fit(images)
        scores = run.predict("val", scored).scores
        auroc = ranking.auroc(scores.labels, scores.score)
        metrics[name] = {**dict.fromkeys(METRICS), "image_auroc": auroc, **compute_pixel_metrics(scores)}
    return {"variants": metrics}


def make_job(uri: str, size: int, settings: Sequence[str], split_seed: int, seed: int) -> JobConfig:
    """The job of one training, which fits no Gaussian itself."""
    data = {"uri": uri, "protocol": "liac", "image_size": size, "seed": split_seed}
    document = {"method": "cdo", "data": data, "params": {"distance": "euclidean"}, "train": {"seed": seed}}
    return benchmark_job(document, settings)


def table_row(name: str, variant: str, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Mean and deviation of the runs."""
    values = [mean_and_deviation([run["variants"][variant][metric] for run in runs]) for metric in METRICS]
    return [name, variant, str(len(runs)), *values]


def main() -> None:
    """Train, evaluate, and write the table."""
    parser = make_parser(__doc__, (0,), "cdo-distance")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="VARIANT")
    arguments = parser.parse_args()
    rows, all_runs = [], []
    for uri in arguments.data:
        job_of_seeds = partial(make_job, uri, arguments.size, arguments.set)
        splits = open_splits(arguments, job_of_seeds)
        work = partial(train, variants=arguments.variants)
        runs = run_seeds(arguments, "cdo-distance", splits, job_of_seeds, work)
        rows += [table_row(Path(uri.rstrip("/")).name, variant, runs) for variant in arguments.variants]
        all_runs += runs
    about = (
        f"Images stretched to {arguments.size} px; split `liac`; {describe_seeds(arguments)}; parameters of the training: "
        f"{', '.join(arguments.set) or 'the defaults'}. Validation split; the score is the maximum of the smoothed map."
    )
    write_table(arguments, "CDO's distance", about, all_runs, HEAD, rows, left=2)


if __name__ == "__main__":
    main()
