"""Training speed of CDO's published code, from a checkout of https://github.com/caoyunkang/CDO in the working directory.

Called by ``gpu.py``: HRNet-W32 without its weights, the loss and optimizer of its settings, images and noise on the device.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from types import SimpleNamespace

import torch


def measure_steps(size: int, batches: list[int], seconds: float, device: torch.device) -> dict[int, float]:
    """Images per second for each batch size."""
    sys.path.insert(0, ".")
    from loss import get_loss_terms
    from model import get_model

    def network() -> SimpleNamespace:
        return SimpleNamespace(name="mshrnet32", kwargs={"pretrained": False, "checkpoint_path": "", "strict": False})

    options = {"pretrained": False, "checkpoint_path": "", "strict": False, "model_t": network(), "model_s": network()}
    net = get_model(SimpleNamespace(name="cdo", kwargs=options)).to(device).train()
    loss_term = get_loss_terms([{"type": "CDOLoss", "name": "cdo", "gamma": 2, "OOM": True}], device)["cdo"]
    optimizer = torch.optim.Adam(net.net_s.parameters(), lr=1e-4)
    speeds = {}
    for batch in batches:
        images = torch.rand(batch, 3, size, size, device=device)
        mask = torch.zeros(batch, 1, size, size, device=device)
        mask[:, :, : size // 4, : size // 4] = 1

        def step(images: torch.Tensor = images, mask: torch.Tensor = mask) -> float:
            loss = loss_term(*net(images), mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return float(loss.detach())  # its trainer logs every loss

        for _ in range(5):
            step()
        started_at, count = time.perf_counter(), 0
        while time.perf_counter() - started_at < seconds:
            step()
            count += batch
        speeds[batch] = count / (time.perf_counter() - started_at)
    return speeds


def main() -> None:
    """Print images per second for each batch size, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 32], help="batch sizes")
    parser.add_argument("--seconds", type=float, default=4.0, help="duration of each measurement")
    parser.add_argument("--device", default="cuda", help="that trains")
    arguments = parser.parse_args()
    print(json.dumps(measure_steps(arguments.size, arguments.batch, arguments.seconds, torch.device(arguments.device))))


if __name__ == "__main__":
    main()
