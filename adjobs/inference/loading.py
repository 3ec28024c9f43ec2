"""Loading a detector's folder, whatever computes it. PyTorch is imported only for detectors that need it."""

from __future__ import annotations

from pathlib import Path

from adjobs.inference.detector import Detector
from adjobs.inference.engine_contract import EngineName
from adjobs.inference.exported import load_exported
from adjobs.inference.manifest import read_manifest


def load(folder: Path, device: str = "auto", engine: EngineName = "auto") -> Detector:
    """Load a trained or an exported detector.

    Args:
        folder: the folder.
        device: ``auto``, or a torch device; exported detectors are computed on processors.
        engine: what computes a trained one, see :func:`adjobs.inference.engine.create_engine`.

    Raises:
        StorageError: the folder holds no detector, one of another format, or one that was damaged.
        JobError: the device or the engine is not available.
    """
    if read_manifest(folder).graph is not None:
        return load_exported(folder, device, engine)
    from adjobs.inference.torch_detector import TorchDetector

    return TorchDetector.load(folder, device, engine)
