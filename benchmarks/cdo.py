"""What each part of CDO's distance is worth: one training, whose networks are then scored in several ways on the validation part.

    python benchmarks/cdo.py TILES elpv --runs DIR --set lr=0.001 --set epochs=10

Only the validation part is looked at, since this table is there to choose by. Ways differ in whether the expert's features keep
their length, whether all hierarchies stand together, whether the apprentice takes part at all, and how fine the spread is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from contenders import Data, fit_ours, look
from report import keep, machine, table
from runs import command_line, once, origins, seeds_in_words, spread
from torch import Tensor, nn

from adjobs.config.job import JobConfig
from adjobs.config.resolve import override, resolve
from adjobs.evaluation.evaluate import DeviceConfig, predict_split
from adjobs.methods.cdo.model import LEAST_STRIDE, MEASURE_BATCH
from adjobs.methods.cdo.spread import JointSpread
from adjobs.methods.contract import TrainingImages
from adjobs.metrics import ranking, region
from adjobs.nn.blur import gaussian_blur
from adjobs.types import Prediction


class Way(NamedTuple):
    """One way to score."""

    unit: bool = False
    apart: bool = False
    alone: bool = False
    grid: int = 16
    dims: int = 200


WAYS: dict[str, Way | None] = {
    "as printed, eq. (10)": None,
    "each hierarchy in its own units, features of unit length": Way(unit=True, apart=True),
    "each hierarchy in its own units, in the expert's length": Way(apart=True),
    "all hierarchies together, unit length": Way(unit=True),
    "together, in the expert's length: the default": Way(),
    "the default on the expert's features, without an apprentice": Way(alone=True),
    "the default, squares of 2 × 2 places share a spread": Way(grid=8),
    "the default, 100 channels drawn by lot": Way(dims=100),
}
MEASURES = ("image_auroc", "pixel_ap", "au_pro")
HEAD = "| data | what scores | runs | val: image AUROC | pixel AP | AU-PRO |"


class Scored(nn.Module):
    """A trained CDO that scores in another way."""

    def __init__(self, method: nn.Module, way: Way, image_size: int) -> None:
        super().__init__()
        self.method, self.way = method, way
        device = next(method.parameters()).device
        expert, _ = self._maps(torch.zeros(1, 3, image_size, image_size, device=device))
        groups = [[maps] for maps in expert] if way.apart else [expert]
        self.spreads = nn.ModuleList()
        for group in groups:
            height, width = (min(length, image_size // LEAST_STRIDE) for length in group[0].shape[2:])
            widths = [maps.shape[1] for maps in group]
            self.spreads.append(JointSpread(widths, (height, width), way.grid, way.dims, seed=0))

    @torch.no_grad()
    def _maps(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Both networks' maps, changed as the way says."""
        expert, apprentice = self.method.features(images)  # type: ignore[operator]
        if self.way.unit:
            expert = [F.normalize(maps, dim=1) for maps in expert]
        if self.way.alone:
            apprentice = [torch.zeros_like(maps) for maps in apprentice]
        return expert, apprentice

    def _grouped(self, images: Tensor) -> list[tuple[list[Tensor], list[Tensor]]]:
        """The maps that each spread is of."""
        expert, apprentice = self._maps(images)
        return [([e], [a]) for e, a in zip(expert, apprentice, strict=True)] if self.way.apart else [(expert, apprentice)]

    def measure(self, data: TrainingImages, shrinkage: float) -> None:
        """Take the spreads over the normal training images."""
        for number, joint in enumerate(self.spreads):
            pairs = (self._grouped(batch.images)[number] for batch in data.normal(MEASURE_BATCH))
            joint.measure(pairs, shrinkage)  # type: ignore[operator]

    @torch.no_grad()
    def predict(self, images: Tensor) -> Prediction:
        """As CDO does; distances of several spreads are added."""
        size = images.shape[-2:]
        found = [joint(*pair)[:, None] for joint, pair in zip(self.spreads, self._grouped(images), strict=True)]
        maps = torch.stack([F.interpolate(d, size, mode="bilinear", align_corners=False) for d in found]).sum(0)
        smooth = gaussian_blur(maps, self.method.config.sigma * min(size) / 256)  # type: ignore[union-attr, operator]
        return Prediction(smooth.flatten(1).amax(1), smooth)


def train(job: JobConfig, data: Data) -> dict[str, Any]:
    """Train, and score in every way."""
    fitted = fit_ours(job, data)
    found = {}
    for name, way in WAYS.items():
        scored = fitted.method.eval()
        if way is not None:
            scored = Scored(fitted.method, way, job.data.image_size).to(fitted.device).eval()
            scored.measure(fitted.training, float(job.params["shrinkage"]))
        seen = predict_split(scored, fitted.cache, data.index, data.split.val, DeviceConfig(fitted.device)).scores
        masked = seen.anomaly_maps is not None and seen.masks is not None and seen.masks.any()
        found[name] = {
            "image_auroc": ranking.auroc(seen.labels, seen.score),
            "pixel_ap": ranking.pixel_ap(seen.anomaly_maps, seen.masks) if masked else None,
            "au_pro": region.au_pro(seen.anomaly_maps, seen.masks) if masked else None,
        }
    return {"ways": found}


def job_of(uri: str, seeds: tuple[int, int], size: int, settings: list[str]) -> JobConfig:
    """The job of one training, ``seeds`` those of division and training; no spread is measured while it trains."""
    data = {"uri": uri, "protocol": "liac", "image_size": size, "seed": seeds[0]}
    document = {"method": "cdo", "data": data, "params": {"distance": "euclidean"}, "train": {"seed": seeds[1]}}
    return resolve(override(document, [f"params.{setting}" for setting in settings]))


def row(name: str, way: str, runs: list[Mapping[str, Any]]) -> list[str]:
    """Mean and spread of the runs."""
    return [name, way, str(len(runs)), *(spread([run["ways"][way][measure] for run in runs]) for measure in MEASURES)]


def main() -> None:
    """Train, measure, print and keep."""
    arguments = command_line(__doc__, (0,), "cdo-distance").parse_args()
    rows, every = [], []
    for uri in arguments.data:
        runs: list[Mapping[str, Any]] = []
        for division in arguments.split_seeds:
            data = look(uri, "liac", division, None)
            for seed in arguments.seeds:
                job = job_of(uri, (division, seed), arguments.size, arguments.set)
                runs.append(once(arguments.runs, f"{data.index.format}-cdo-distance", job, data, train, arguments.threads))
        rows += [row(data.index.format, way, runs) for way in WAYS]
        every += runs
    about = (
        f"Images stretched to {arguments.size} px; split `liac`; {seeds_in_words(arguments)}; parameters of the training: "
        f"{', '.join(arguments.set) or 'the defaults'}. Validation part; the score is the maximum of the smoothed map."
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    keep(arguments.name, "CDO's distance", machine(device), [about, origins(every), table(HEAD, rows, left=2)])


if __name__ == "__main__":
    main()
