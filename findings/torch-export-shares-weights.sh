# While torch.export traces a module in one thread, the same module has weights without values in every other thread.
#
# Expected: exporting reads a module. A thread that predicts with it meanwhile computes what it always does, as two threads that
#           only predict do.
# Happens:  while it is traced, the parameters of the module itself are FakeTensors. A call in another thread neither waits nor
#           fails: it returns a FakeTensor, whose shape is right and which has no numbers; the error comes where these are read,
#           ".numpy() is not supported for tensor subclasses". After the export the module is as before. An export of a deep copy
#           leaves the module alone.
# Versions: torch 2.15.0. Upstream, of compilation in general: https://github.com/pytorch/pytorch/issues/105943
# Hurts:    servers that answer at once with PyTorch and compile a faster graph (ONNX, OpenVINO, AOTInductor) in the background.
# adjobs:   lets no thread predict with a detector while its method is exported, and exports one method at a time.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile 'torch==2.15.0' 'numpy==2.4.6'
cd "$work"
HOME=$work venv/bin/python - <<'PYTHON'
import copy
import threading
from importlib.metadata import version

import torch
from torch import nn


def check(what, seen, known):
    print(f"{what}: {seen}")
    if seen != known:
        raise SystemExit(f"changed: it was {known}")


print(f"torch {version('torch')}")
main = threading.main_thread()


class Network(nn.Module):
    """A linear layer; outside the main thread its forward waits in the middle, so that the main thread can look at it."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        if threading.current_thread() is not main:
            entered.set()
            leave.wait(60)
        return self.linear(x)


def while_exporting(exported):
    """What another thread sees of ``network`` while ``exported`` is exported: a value of the weights, the output, its numbers."""
    entered.clear()
    leave.clear()
    thread = threading.Thread(target=lambda: programs.append(torch.export.export(exported, (x,))))
    thread.start()
    assert entered.wait(60)
    output = network(x)
    try:
        numbers = bool((output.detach().numpy() == before).all())
    except RuntimeError as error:
        numbers = str(error)
    seen = type(network.linear.weight).__name__, type(output).__name__, numbers
    leave.set()
    thread.join()
    return seen


entered, leave, programs = threading.Event(), threading.Event(), []
network, x = Network().eval(), torch.ones(1, 4)
before = network(x).detach().numpy()
check(
    "weights, output and numbers in another thread during an export",
    while_exporting(network),
    ("FakeTensor", "FakeTensor", ".numpy() is not supported for tensor subclasses."),
)
check("the same after it", bool((network(x).detach().numpy() == before).all()), True)
check("during an export of a copy", while_exporting(copy.deepcopy(network)), ("Parameter", "Tensor", True))
check("exports that ended well", len(programs), 2)
PYTHON
