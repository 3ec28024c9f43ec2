"""Scores and maps of anomalib's PatchCore, PaDiM and PatchFlow for the images of an exchange folder that accuracy.py wrote.

    python -m venv DIR && DIR/bin/pip install -r benchmarks/neighbours/requirements.txt
    DIR/bin/python benchmarks/neighbours/anomalib_scores.py EXCHANGE --model patchcore

It runs in that environment, without adjobs. anomalib's own torch modules are driven as its Lightning modules drive them; only the
backbone's weights, the normalisation and the pixels come from adjobs. The exchange folder holds no labels.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from anomalib.models.image.patchflow.loss import PatchflowLoss
from anomalib.models.image.patchflow.torch_model import PatchflowModel
from memory import peak_mib
from safetensors.torch import load_file

Model = PatchcoreModel | PadimModel | PatchflowModel


def build(name: str, settings: dict[str, Any], weights: Path) -> Model:
    """An untrained model on the backbone of the exchange folder."""
    layers, backbone = settings["levels"][name], settings["backbone"]
    if name == "patchcore":
        model: Model = PatchcoreModel(layers, backbone, pre_trained=False)
    elif name == "padim":
        model = PadimModel(backbone, layers, pre_trained=False, n_features=settings["padim_features"])
    else:
        model = PatchflowModel((settings["size"],) * 2, backbone, pre_trained=False)
        if model.feature_extractor.layers != layers:
            raise SystemExit(f"PatchFlow: got levels {model.feature_extractor.layers}, the exchange folder has {layers}")
    extractor, state = model.feature_extractor.feature_extractor, load_file(weights)
    extractor.load_state_dict({key: state[key] for key in extractor.state_dict()})  # another neighbour may reach deeper
    return model


def check_backbone(model: Model, image: torch.Tensor, expected: Any) -> None:
    """Stop unless the features of one image are those that adjobs computes."""
    features = model.feature_extractor(image)
    for layer in features:
        error = float((features[layer].cpu() - torch.from_numpy(expected[str(layer)])).abs().max())
        if error > 1e-3:
            raise SystemExit(f"level {layer}: features differ by {error:.2g} from those of adjobs, at most 1e-3 is rounding")


def fit(model: Model, images: np.ndarray, prepare: Any, settings: dict[str, Any]) -> float:
    """Train; returns seconds."""
    started_at = time.perf_counter()
    model.train()
    if isinstance(model, PatchflowModel):
        descend(model, images, prepare, settings)
    else:
        for batch in batches(images, settings["batch"]):
            model(prepare(batch))
        if isinstance(model, PatchcoreModel):
            model.subsample_embedding(settings["coreset"])
        else:
            model.fit()
    model.eval()
    synchronise()
    return time.perf_counter() - started_at


def descend(model: PatchflowModel, images: np.ndarray, prepare: Any, settings: dict[str, Any]) -> None:
    """Train PatchFlow with the optimiser of anomalib's Lightning module and the batch of its data modules."""
    optimiser, loss = torch.optim.Adam(model.parameters(), lr=0.001, weight_decay=0.0001), PatchflowLoss()
    generator = np.random.default_rng(settings["seed"])
    order = np.empty(0, dtype=int)
    for _ in range(settings["patchflow_steps"]):
        if not len(order):
            order = generator.permutation(len(images))
        chosen, order = order[:32], order[32:]
        optimiser.zero_grad()
        loss(*model(prepare(images[np.sort(chosen)]))).backward()
        optimiser.step()


def batches(images: np.ndarray, size: int) -> list[np.ndarray]:
    """Images in their order."""
    return [images[start : start + size] for start in range(0, len(images), size)]


@torch.inference_mode()
def predict(model: Model, images: np.ndarray, prepare: Any, size: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Scores ``(N,)``, maps ``(N, H, W)`` and seconds, from uint8 pixels to arrays in memory, in batches of ``size``."""
    scores, maps, seconds = [], [], 0.0
    for batch in batches(images, size):
        started_at = time.perf_counter()
        prediction = model(prepare(batch))
        scores.append(prediction.pred_score.reshape(-1).double().cpu().numpy())
        maps.append(prediction.anomaly_map[:, 0].float().cpu().numpy())
        seconds += time.perf_counter() - started_at
    return np.concatenate(scores), np.concatenate(maps), seconds


def synchronise() -> None:
    """Wait until the GPU has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    """Train on ``train.npy``, score ``val.npy`` and ``test.npy``, write ``MODEL.npz``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exchange", type=Path)
    parser.add_argument("--model", choices=["patchcore", "padim", "patchflow"], required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    folder, device = arguments.exchange, torch.device(arguments.device)
    settings = json.loads((folder / "settings.json").read_text())
    torch.manual_seed(settings["seed"])
    np.random.seed(settings["seed"])  # the coreset's projection draws from NumPy's global generator
    mean, std = (torch.tensor(settings[name], device=device).view(1, 3, 1, 1) for name in ("mean", "std"))

    def prepare(images: np.ndarray) -> torch.Tensor:
        pixels = torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2)
        return (pixels.float() / 255 - mean) / std

    train, val, test = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("train", "val", "test"))
    model = build(arguments.model, settings, folder / "weights.safetensors").to(device)
    check_backbone(model, prepare(train[:1]), np.load(folder / "probe.npz"))
    seconds = fit(model, train, prepare, settings)
    val_scores, _, _ = predict(model, val, prepare, settings["batch"])
    scores, maps, predicting = predict(model, test, prepare, settings["batch"])
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else peak_mib()
    costs = {"train_seconds": seconds, "ms_per_image": 1000 * predicting / len(scores), "peak_mib": peak}
    np.savez(folder / f"{arguments.model}.npz", val_scores=val_scores, scores=scores, maps=maps, **costs)


if __name__ == "__main__":
    main()
