"""Training speed of CDO's published code, from a checkout of https://github.com/caoyunkang/CDO in the working directory.

Called by ``gpu.py``: HRNet-W32 without its weights, the loss and optimizer of its settings, images and noise on the device.
"""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace

import torch


def main(size: int, batches: list[int], seconds: float, device: torch.device) -> None:
    """Print images per second for each batch size, as JSON."""
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
    print(json.dumps(speeds))


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]), float(sys.argv[3]), torch.device(sys.argv[4]))
