"""The reference: a model's detector, and normal images of its run that it was not fitted to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from adjobs.config.settings import Settings
from adjobs.data.open import open_dataset
from adjobs.drift.images import ImageFile, choose
from adjobs.errors import AdjobsError, DataError, JobError, TrackingError, shorten, shown
from adjobs.inference.manifest import is_detector
from adjobs.inference.torch_detector import TorchDetector
from adjobs.metrics.inputs import Floats
from adjobs.tracking.folder import DETECTOR, folder_uri, is_folder, run_folder
from adjobs.tracking.layout import RunRef
from adjobs.tracking.logged_model import pin_model_uri, source_run_id
from adjobs.tracking.reader import RunReader
from adjobs.tracking.runs import fetch_detector, find_run, open_reader

# A score may differ by so many standard deviations of the stored ones, on another device, and of so many images by more.
_SAME_SCORE, _OTHER_SCORES = 0.1, 0.01


@dataclass(frozen=True)
class Model:
    """A loaded model, and the run that trained it."""

    detector: TorchDetector
    run: RunReader


@dataclass(frozen=True)
class Reference:
    """Normal images of a run that its model was not fitted to.

    Attributes:
        ids: of the images in the data set.
        scores: ``(N,)`` that the run stored.
        files: the images, in this order; None if they cannot be read.
        reason: why they cannot, or "".
    """

    ids: tuple[str, ...]
    scores: Floats
    files: tuple[ImageFile, ...] | None
    reason: str = ""

    def has_same_scores(self, scores: Floats) -> bool:
        """Whether scores ``(N,)`` of the images as they are now are those that the run stored."""
        tolerance = _SAME_SCORE * float(self.scores.std()) + 1e-6 * float(np.abs(self.scores).max())
        return float(np.mean(np.abs(scores - self.scores) > tolerance)) <= _OTHER_SCORES


@contextmanager
def open_model(model: str, settings: Settings, device: str) -> Iterator[Model]:
    """Load the detector of a model, and open its run.

    Args:
        model: a run id, ``models:/name/version``, ``models:/name@alias`` or ``models:/m-…``, or the folder of a run's detector.
        settings: where MLflow and the user's folder are.
        device: ``auto`` (a GPU where there is one), or a torch device.

    Raises:
        TrackingError: MLflow does not answer, or there is no such run or model.
        StorageError: it is not a detector.
    """
    run, name = _find_model(model, settings)
    reader = open_reader(run)
    with TemporaryDirectory(prefix="adjobs-") as folder:
        path = fetch_detector(settings.tracking_uri, settings.home, name, Path(folder))
        yield Model(TorchDetector.load(path, device, engine="torch"), reader)  # as the run that is compared with


def read_reference(
    run: RunReader, splits: Iterable[str], limit: int, generator: np.random.Generator, settings: Settings
) -> Reference:
    """The normal images of some splits of a run; of more than ``limit`` a random subset.

    Raises:
        TrackingError: the run stored no scores, or MLflow does not answer.
        DataError: fewer than 2 normal images.
    """
    ids: list[str] = []
    scores: list[float] = []
    for split in splits:
        stored = run.scores(split)
        is_normal = stored.labels == 0
        ids += [name for name, normal in zip(stored.ids, is_normal, strict=True) if normal]
        scores += stored.score[is_normal].tolist()
    if len(ids) < 2:
        names = " and ".join(splits)
        raise DataError(
            f"run {run.ref.run_id}: its split {names} has {len(ids)} normal images; at least 2 are needed; train with more, or "
            "take both splits as reference"
        )
    chosen = choose(len(ids), limit, generator)
    ids, values = [ids[i] for i in chosen], np.array([scores[i] for i in chosen], dtype=np.float64)
    try:
        files = _files_of(run, ids, settings)
    except AdjobsError as error:
        return Reference(tuple(ids), values, None, shorten(str(error), 300))
    return Reference(tuple(ids), values, files)


def _find_model(model: str, settings: Settings) -> tuple[RunRef, str]:
    """The run of a model, and the model's name with aliases resolved: these may move while we work."""
    if not model.strip():
        raise JobError(f"model {shown(model)}: give a run id or a models:/ URI")
    run = find_run(settings.tracking_uri, settings.home, model)
    if is_folder(run.tracking_uri):
        return run, run.run_id
    path = Path(model)
    if is_detector(path):
        resolved = path.resolve()
        run = RunRef(folder_uri(settings.home), resolved.parent.name)
        if resolved.name != DETECTOR or run_folder(run).resolve() != resolved.parent:
            raise TrackingError(
                f"model '{model}': no run is recorded with a copied detector; give the id of its run, or a models:/ URI"
            )
        return run, run.run_id
    pinned = pin_model_uri(settings.tracking_uri, model)
    run_id = source_run_id(settings.tracking_uri, pinned)
    if run_id is None:
        raise TrackingError(f"model '{model}': no run is recorded with it; give a model that 'adjobs train' logged")
    return RunRef(settings.tracking_uri, run_id), pinned


def _files_of(run: RunReader, ids: list[str], settings: Settings) -> tuple[ImageFile, ...]:
    """Local files of samples of a run's data set.

    Raises:
        AdjobsError: the job is not recorded, or the data set cannot be read any more, or has lost images.
    """
    data = run.stored_run().job.data
    dataset = open_dataset(data.uri, data.format, cache=settings.cache, options=data.read_options)
    paths = {sample.id: sample.image for sample in dataset.samples}
    missing = [name for name in ids if name not in paths]
    if missing:
        raise DataError(f"data '{data.uri}': {len(missing)} of {len(ids)} reference images are gone, first {missing[0]}")
    return tuple(ImageFile(name, paths[name]) for name in ids)
