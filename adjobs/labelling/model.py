"""The detector that ranks images, and what its run knows: validation scores and the data set."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adjobs.config.settings import Settings
from adjobs.errors import DataError, JobError, StorageError, TrackingError, shorten
from adjobs.inference.torch_detector import TorchDetector
from adjobs.labelling.images import KnownImages, find_known
from adjobs.tracking.layout import RunRef
from adjobs.tracking.logged_model import pin_model_uri
from adjobs.tracking.runs import detector_folder, open_reader, source_run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RankingModel:
    """A detector, and what is known beside it.

    Attributes:
        name: of the model, an alias resolved to its version.
        detector: scores images.
        validation: ``(V,)`` scores of the validation split; empty where no run is known.
        known: the images of its data set; none where these cannot be reached.
    """

    name: str
    detector: TorchDetector
    validation: np.ndarray
    known: KnownImages


def load_model(model: str | Path, settings: Settings, device: str = "auto") -> RankingModel:
    """Load a detector with the validation scores and the images of its run, so far as these can be reached.

    Args:
        model: a run id, ``models:/name/version``, ``models:/name@alias``, ``models:/m-…``, or a folder that holds a detector.
        settings: where MLflow and the caches are.
        device: ``auto`` (a GPU where there is one), or a torch device.

    Raises:
        TrackingError: MLflow does not answer, or there is no such run or model.
        StorageError: it is not a detector.
    """
    # Resolved first: an alias that is moved meanwhile must not pair a detector with another run.
    name = pin_model_uri(settings.tracking_uri, str(model)) if str(model).startswith("models:/") else str(model)
    with detector_folder(settings.tracking_uri, settings.home, name) as folder:
        detector = TorchDetector.load(folder, device)
    run = source_run(settings.tracking_uri, settings.home, name)
    if run is None:
        log.warning("model %s: its run is not known; images are compared with each other alone", name)
        return RankingModel(name, detector, np.empty(0), KnownImages())
    return RankingModel(name, detector, _validation_scores(run), _known_images(run, settings))


def _validation_scores(run: RunRef) -> np.ndarray:
    try:
        return open_reader(run).scores("val").score
    except TrackingError as error:
        log.warning("%s; nearness to the threshold is measured among the candidates", error)
        return np.empty(0)


def _known_images(run: RunRef, settings: Settings) -> KnownImages:
    try:
        return find_known(open_reader(run).stored_run(), settings.cache)
    except (DataError, StorageError, TrackingError, JobError) as error:
        reason = shorten(str(error), 300)
        log.warning("the training images cannot be read (%s); images are compared with each other alone", reason)
        return KnownImages()
