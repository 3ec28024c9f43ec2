"""A detector whose method is computed by PyTorch, or by a graph that is made of it while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Self

import torch

from adjobs import devices
from adjobs.errors import JobError, StorageError, one_line
from adjobs.evaluation.evaluate import DeviceConfig
from adjobs.evaluation.predictions import EVAL_BATCH
from adjobs.inference.detector import CPU_BATCH, Detector
from adjobs.inference.detector_folder import load_method
from adjobs.inference.drawn import drawn_images
from adjobs.inference.engine import AdaptiveEngine, create_engine
from adjobs.inference.engine_contract import EngineName
from adjobs.inference.manifest import Manifest, read_manifest
from adjobs.methods.method import Method
from adjobs.parallel import cores


class TorchDetector(Detector):
    """A detector with its method.

    Attributes:
        method: with its weights, on the device, in evaluation mode.
        device_config: where and how precisely it runs.
    """

    def __init__(self, method: Method, manifest: Manifest, device: torch.device, engine: EngineName = "auto") -> None:
        self.method = method.to(device).to(memory_format=torch.channels_last).eval()
        self.device_config = DeviceConfig(device)
        super().__init__(create_engine(engine, self.method, manifest.image_size, self.device_config), manifest)

    @classmethod
    def load(cls, folder: Path, device: str = "auto", engine: EngineName = "auto") -> Self:
        """Read a folder that :func:`adjobs.inference.detector_folder.save` wrote.

        Args:
            folder: the folder.
            device: ``auto`` (a GPU where there is one), or a torch device.
            engine: what computes: ``torch``, ``openvino`` (on processors; compiled now, in seconds), or ``auto``; see
                :func:`adjobs.inference.engine.create_engine`.

        Raises:
            StorageError: the folder holds no detector, one of another format, or one that was damaged.
            JobError: the device or the engine is not available.
        """
        torch_device = resolve_device(device)
        manifest = read_manifest(folder)
        if manifest.graph is not None:
            raise StorageError(
                f"detector {folder}: was exported for {manifest.graph.format} and has no weights for PyTorch, which this needs; "
                "give the run or the model that it was exported from"
            )
        method = load_method(folder, manifest)
        try:  # better now than at the first image: stored indices may be out of range, or a memory bank empty
            detector = cls(method, manifest, torch_device, engine)
            detector.predict_arrays(drawn_images(manifest.image_size)[:1])
        except (RuntimeError, MemoryError, ValueError, TypeError, ArithmeticError, LookupError) as error:
            raise StorageError(
                f"detector {folder}: cannot predict ({one_line(error)}); give a run or model that adjobs logged"
            ) from error
        return detector

    @property
    def batch_size(self) -> int:
        """How many images are best computed at once when there are many."""
        return CPU_BATCH if self._on_cpu else EVAL_BATCH

    @property
    def concurrent_batches(self) -> int:
        """How many batches fill the cores with the threads of PyTorch as they are set."""
        return max(1, cores() // torch.get_num_threads()) if self._on_cpu else 1

    def throughput_mode(self) -> AbstractContextManager[None]:
        """A context in which several batches are computed at the same time rather than one with all cores.

        It holds for the whole process.
        """
        return one_thread_per_network()

    def expect(self, count: int) -> None:
        """Say how many images will be predicted, so that an engine that pays for so many is prepared at the first of them."""
        if isinstance(self.engine, AdaptiveEngine):
            self.engine.expect(count)

    @property
    def _on_cpu(self) -> bool:
        return self.device_config.device.type == "cpu"


@contextmanager
def one_thread_per_network() -> Iterator[None]:
    """Let PyTorch run each operator in one thread, in the whole process; at the end as many are set as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def resolve_device(name: str) -> torch.device:
    """The device of this name; ``auto`` is a GPU where there is one.

    Raises:
        JobError: the device is not available.
    """
    if name == "auto":
        return devices.automatic_device()
    gpus = devices.gpu_names()
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()  # fails without that hardware, and on "meta", which computes nothing
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        cause = one_line(error).partition(". ")[0]
        raise JobError(f"device: got {name!r}, available here are {', '.join(['auto', 'cpu', *gpus])} ({cause[:120]})") from error
    return device
