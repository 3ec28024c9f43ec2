"""Exporting a detector: a folder with a model for ONNX Runtime or OpenVINO, written only if it says what the detector says."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx

from adjobs.errors import JobError, StorageError, one_line, shorten
from adjobs.inference.engine_contract import GraphFormat
from adjobs.inference.engine_exported import ExportedEngine
from adjobs.inference.export.agreement import DisagreementError, Speed, compare, speed_of
from adjobs.inference.export.divergence import first_difference
from adjobs.inference.export.graph import add_decisions, add_preprocessing, make_network
from adjobs.inference.export.readme import describe_folder
from adjobs.inference.exported import digests
from adjobs.inference.manifest import MANIFEST_FILE, Agreement, Graph, Manifest, read_manifest, write_manifest
from adjobs.inference.torch_detector import TorchDetector
from adjobs.storage.outputs import OutputFolder

README_FILE = "README.md"
FILES: dict[GraphFormat, list[str]] = {"onnx": ["model.onnx"], "openvino": ["model.xml", "model.bin"]}
PACKAGES: dict[GraphFormat, list[str]] = {"onnx": ["torch", "onnx", "onnxruntime"], "openvino": ["torch", "onnx", "openvino"]}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportResult:
    """An exported detector.

    Attributes:
        folder: where it is.
        format: which runtime computes it.
        megabytes: of its model.
        agreement: with PyTorch, on real images.
        speed: of one image, beside PyTorch.
    """

    folder: Path
    format: GraphFormat
    megabytes: float
    agreement: Agreement
    speed: Speed

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "folder": str(self.folder),
            "format": self.format,
            "megabytes": self.megabytes,
            **self.agreement.model_dump(),
            "milliseconds": asdict(self.speed),
        }


def open_output(out: Path, format: GraphFormat) -> OutputFolder:
    """The folder for an exported detector.

    Raises:
        StorageError: it holds files that no earlier export wrote, or an export in another format.
    """
    folder = OutputFolder(out, "export")
    folder.check([*FILES[format], README_FILE, MANIFEST_FILE])
    if (folder.path / MANIFEST_FILE).exists():
        try:
            earlier = read_manifest(folder.path).graph
        except StorageError:  # cut off, or of another version of adjobs: it is replaced
            earlier = None
        if earlier is not None and earlier.format != format:
            raise StorageError(f"{out}: holds a detector exported for {earlier.format}; choose another folder with --out")
    return folder


def export_detector(detector: TorchDetector, format: GraphFormat, folder: OutputFolder, images: Sequence[Path]) -> ExportResult:
    """Export a detector, compare it with PyTorch, and write it.

    Args:
        detector: on the CPU, with the engine ``torch``.
        format: which runtime computes it.
        folder: what :func:`open_output` gave.
        images: files to compare on, as the detector will see them.

    Raises:
        JobError: the method cannot be exported, or the exported model says something else; nothing is written.
        DataError: an image that cannot be read.
        StorageError: the folder cannot be written.
    """
    manifest = detector.manifest
    network = _convert(detector)
    with TemporaryDirectory(prefix="adjobs-") as temporary:
        folder_before = Path(temporary)
        path = save_model(network, manifest, format, folder_before)
        side = manifest.image_size
        fixed, free = (ExportedEngine(path, format, size) for size in (side, None))
        try:
            agreement = compare(detector, fixed, free, images)
        except DisagreementError as error:
            place = first_difference(detector.method, network, format, error.pixels)
            where = f"; the first operation that differs: {place}" if place else "; the network alone agrees"
            raise JobError(f"the exported model differs from PyTorch, nothing is written: {error}{where}") from error
        speed = speed_of(detector, fixed)
        versions = {name: version(name) for name in PACKAGES[format]}
        graph = Graph(format=format, files=digests(folder_before, FILES[format]), agreement=agreement, versions=versions)
        exported = manifest.model_copy(update={"graph": graph})
        write_manifest(folder_before, exported)
        (folder_before / README_FILE).write_text(describe_folder(exported), encoding="utf-8")
        for name in [*FILES[format], README_FILE, MANIFEST_FILE]:  # the manifest last: it makes the folder a detector
            with folder.write(name) as target:
                target.write_bytes((folder_before / name).read_bytes())
        megabytes = sum((folder_before / name).stat().st_size for name in FILES[format]) / 1e6
    return ExportResult(folder.path, format, megabytes, agreement, speed)


def _convert(detector: TorchDetector) -> onnx.ModelProto:
    try:
        return make_network(detector.method, detector.manifest.image_size)
    except Exception as error:  # the exporter raises many unrelated classes
        reason = shorten(one_line(error), 300)
        raise JobError(f"{detector.manifest.method}: cannot be exported ({reason}); predict with PyTorch instead") from error


def save_model(network: onnx.ModelProto, manifest: Manifest, format: GraphFormat, folder: Path) -> Path:
    """Add resize and decisions to a network, and write the model's files; returns the first of them.

    Args:
        network: what :func:`adjobs.inference.export.graph.make_network` gave; decisions are added to it.
        manifest: of the detector.
        format: which runtime computes it.
        folder: an existing one.
    """
    model = add_preprocessing(network, manifest.image_size)
    add_decisions(model, manifest)
    onnx.checker.check_model(model)
    path = folder / FILES[format][0]
    if format == "onnx":
        path.write_bytes(model.SerializeToString())
        return path
    import openvino

    from adjobs.inference.openvino_core import CORE

    # Without the last argument weights are rounded to half precision.
    openvino.save_model(CORE.read_model(model.SerializeToString()), path, compress_to_fp16=False)
    return path
