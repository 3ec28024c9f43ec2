"""The memory that prediction takes, measured in a process that does nothing else."""

from __future__ import annotations

import multiprocessing
import resource
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from adjobs import devices
from adjobs.errors import StorageError
from adjobs.evaluation.predictions import EVAL_BATCH
from adjobs.inference.detector_folder import save
from adjobs.inference.torch_detector import TorchDetector

_SECONDS = 600.0


def peak_memory_mib(detector: TorchDetector) -> float:
    """Peak memory in MiB of a process that loads the detector and predicts a batch; on a GPU, of the GPU.

    Raises:
        StorageError: the process ended without an answer, as for lack of memory.
    """
    with TemporaryDirectory(prefix="adjobs-") as temporary:
        folder = Path(temporary) / "detector"
        save(folder, detector.method, detector.manifest)
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_predict_and_report, args=(str(folder), str(detector.device_config.device), sender))
        process.start()
        sender.close()
        try:
            answer = receiver.recv_bytes() if receiver.poll(_SECONDS) else b""
        except EOFError:
            answer = b""
        finally:
            process.kill()
            process.join()
    if not answer:
        raise StorageError("the memory of a prediction could not be measured: its process ended; check the memory")
    return float(answer)


def _predict_and_report(folder: str, device: str, sender: Connection) -> None:
    detector = TorchDetector.load(Path(folder), device)
    size = detector.manifest.image_size
    detector.predict_arrays(np.zeros((EVAL_BATCH, size, size, 3), np.uint8))
    if devices.is_gpu(detector.device_config.device):
        peak = devices.peak_allocated_bytes(detector.device_config.device) / 2**20
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    sender.send_bytes(str(peak).encode())
