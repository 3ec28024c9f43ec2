"""Loading the model that is served: beside one that answers requests, without making it wait."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from adjobs.config.environment import load_settings
from adjobs.inference.engine_contract import EngineName
from adjobs.inference.manifest import read_manifest

if TYPE_CHECKING:
    from adjobs.inference.detector import Detector

log = logging.getLogger(__name__)


def load_to_serve(model: str, *, device: str = "auto", engine: EngineName = "auto") -> Detector:
    """Load a detector as :func:`adjobs.api.load_detector` does; what takes Python's lock for seconds is done by another process.

    Args:
        model: what that function takes.
        device: of the same.
        engine: of the same; ``auto`` converts at once, since many images will come.

    Raises:
        TrackingError: MLflow does not answer, or there is no such run or model.
        StorageError: it is not a detector.
        JobError: the device or the engine is not available.
    """
    from adjobs.inference.loading import load
    from adjobs.tracking.runs import detector_folder

    settings = load_settings()
    with detector_folder(settings.tracking_uri, settings.home, model) as folder:
        trained = read_manifest(folder).graph is None
        if trained and engine != "torch" and importlib.util.find_spec("openvino") is not None:
            detector = _converted(folder, device)
            if detector is not None:
                return detector
        return load(folder, device, engine)


def _converted(folder: Path, device: str) -> Detector | None:
    from adjobs.inference.conversion_process import convert_in_process
    from adjobs.inference.detector import Detector
    from adjobs.inference.engine_openvino import OpenVINOEngine

    with TemporaryDirectory(prefix="adjobs-") as temporary:
        path = Path(temporary) / "model.xml"
        reason = convert_in_process(folder, path, device)
        if reason is None:
            return Detector(OpenVINOEngine(path), read_manifest(folder))
    log.info("the detector is not computed by OpenVINO: %s", reason)
    return None
