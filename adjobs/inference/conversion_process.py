"""Making a graph for OpenVINO in a process of its own, at a low priority.

Making it takes seconds of Python code, which would keep all threads of the process waiting that answers requests by another
detector. That process then needs no PyTorch.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from adjobs.errors import AdjobsError, one_line

NICE = 19
"""Of the process, which computes in one thread: it takes what others leave of a core."""


def convert_in_process(folder: Path, path: Path, device: str) -> str | None:
    """Convert the detector of a folder, compare it with PyTorch on drawn images, and write its graph.

    Args:
        folder: that a trained detector was saved to.
        path: of the ``.xml`` file; weights are written beside it.
        device: on which it is to be computed.

    Returns:
        None if the graph was written, otherwise why it was not.
    """
    arguments = [str(folder), str(path), "--device", device]
    command = [sys.executable, "-P", "-m", __name__, *arguments]  # -P: no module of the folder that the user is in
    # At the end of its input it ends, so that it does not outlive this process; until then its input stays open.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        assert process.stdout
        answer = process.stdout.read()
        status = process.wait()
    if status != 0:
        return f"the process that makes the graph ended with status {status}"
    reason: str | None = json.loads(answer)
    return reason


def _convert(folder: Path, path: Path, device: str) -> str | None:
    from adjobs.inference.conversion import convert
    from adjobs.inference.drawn import drawn_images
    from adjobs.inference.engine import find_difference
    from adjobs.inference.engine_openvino import OpenVINOEngine
    from adjobs.inference.torch_detector import TorchDetector, resolve_device

    if resolve_device(device).type != "cpu":
        return f"it is computed on {resolve_device(device)}"
    detector = TorchDetector.load(folder, device, "torch")
    size = detector.manifest.image_size
    try:
        convert(detector.method, size, path)
        return find_difference(detector.predict_arrays(drawn_images(size)), OpenVINOEngine(path).predict(drawn_images(size)))
    except Exception as error:  # converters and compilers raise many unrelated classes
        return f"its graph cannot be made ({one_line(error)[:200]})"


def _end_with_input() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


def main() -> None:
    """The other process: a reason in JSON on standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("path", type=Path)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    os.nice(NICE)
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        reason = _convert(arguments.folder, arguments.path, arguments.device)
    except AdjobsError as error:
        reason = str(error)
    print(json.dumps(reason))


if __name__ == "__main__":
    main()
