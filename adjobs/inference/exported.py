"""Detectors that were exported for ONNX Runtime or OpenVINO: the folder, and loading it. Without PyTorch."""

from __future__ import annotations

from pathlib import Path

from adjobs.errors import JobError, StorageError, one_line
from adjobs.inference.detector import Detector
from adjobs.inference.drawn import drawn_images
from adjobs.inference.engine_exported import ExportedEngine
from adjobs.inference.manifest import Graph, damaged, read_manifest, unreadable
from adjobs.storage.base import file_sha256


def load_exported(folder: Path, device: str = "auto", engine: str = "auto") -> Detector:
    """Load a folder that :func:`adjobs.inference.export.export.export_detector` wrote.

    Args:
        folder: the folder.
        device: ``auto`` or ``cpu``.
        engine: ``auto`` or the format's name: the graph was made for one runtime.

    Raises:
        StorageError: the folder holds no exported detector, or one that was damaged.
        JobError: the runtime is not installed, or another device or engine is asked for.
    """
    manifest = read_manifest(folder)
    graph, side = manifest.graph, manifest.image_size
    if graph is None:
        raise damaged(folder, "holds weights for PyTorch, no exported model")
    if device not in {"auto", "cpu"}:
        raise JobError(f"device: got {device!r}; exported detectors are computed on processors: give auto or cpu")
    if engine not in {"auto", graph.format}:
        raise JobError(f"engine: got {engine!r}; detector {folder} was exported for {graph.format}: give auto")
    path = _model_file(folder, graph)
    try:  # better now than at the first image
        detector = Detector(ExportedEngine(path, graph.format, side), manifest)
        detector.predict_arrays(drawn_images(side)[:1])
    except (StorageError, JobError):
        raise
    except Exception as error:  # runtimes raise many unrelated classes
        raise StorageError(f"detector {folder}: cannot predict ({one_line(error)[:200]}); export it again") from error
    return detector


def digests(folder: Path, names: list[str]) -> dict[str, str]:
    """SHA-256 of files of a folder, by name."""
    return {name: file_sha256(folder / name) for name in names}


def _model_file(folder: Path, graph: Graph) -> Path:
    for name, digest in graph.files.items():
        try:
            actual = file_sha256(folder / name)
        except OSError as error:
            raise unreadable(folder, error) from error
        if actual != digest:
            raise damaged(folder, f"{name} is not the file that was exported")
    return folder / next(iter(graph.files))
