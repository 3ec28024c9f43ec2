"""The folder of a detector: ``weights.safetensors``, and ``detector.json``, see :mod:`adjobs.inference.manifest`.

No pickle: loading a model does not mean trusting the bucket it came from. Name, shape and type of every tensor are those of the
method, and its values must be finite.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from adjobs import methods
from adjobs.errors import AdjobsError, StorageError, one_line, shorten
from adjobs.evaluation.predictions import DIVERGED, ScoreError
from adjobs.inference.manifest import Manifest, damaged, first_fault, unreadable, write_manifest
from adjobs.methods.method import Method

WEIGHTS_FILE = "weights.safetensors"


def save(folder: Path, method: Method, manifest: Manifest) -> None:
    """Write a detector's folder; the manifest last.

    Raises:
        ScoreError: the state holds a value that is not finite, so that the detector could not be loaded.
    """
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in method.state_dict().items()}
    invalid = _not_finite(state)
    if invalid:
        raise ScoreError(f"trained model: NaN or infinite values in {_enumerate(invalid)}; {DIVERGED}")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / WEIGHTS_FILE)
    write_manifest(folder, manifest)


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The state of a detector's method, by name.

    Raises:
        StorageError: the folder holds no detector, or a value is not finite.
    """
    try:
        weights = dict(load_file(folder / WEIGHTS_FILE))
    except (OSError, ValueError, SafetensorError) as error:
        raise unreadable(folder, error) from error
    invalid = _not_finite(weights)
    if invalid:
        raise damaged(folder, f"{WEIGHTS_FILE}: NaN or infinite values in {_enumerate(invalid)}")
    return weights


def load_method(folder: Path, manifest: Manifest) -> Method:
    """The method of a detector with its weights, on the CPU.

    Raises:
        StorageError: the method is not installed, has other parameters, or the weights are not its own.
    """
    weights = read_weights(folder)
    method = _build(folder, manifest)
    fault = _find_mismatch(method.state_dict(), weights)
    if fault:
        raise damaged(folder, f"{WEIGHTS_FILE}: {fault}")
    try:
        method.load_state_dict(weights)
    except (RuntimeError, IndexError, ValueError) as error:  # shapes, which a method may choose by what is stored
        raise damaged(folder, f"{WEIGHTS_FILE} does not fit the method ({one_line(error)})") from error
    for name, tensor in method.state_dict().items():
        if tensor.shape != weights[name].shape:  # torch takes the first number of a vector for a scalar
            stored = tuple(weights[name].shape)
            raise damaged(
                folder, f"{WEIGHTS_FILE} does not fit the method ({name} has shape {stored}, must be {tuple(tensor.shape)})"
            )
    return method


def _build(folder: Path, manifest: Manifest) -> Method:
    try:
        loaded = methods.load(manifest.method)
        config = loaded.config(**{**manifest.params, **methods.without_pretrained_weights(manifest.method)})
        return loaded.build(config, image_size=manifest.image_size, seed=0)
    except ValidationError as error:
        raise StorageError(
            f"detector {folder}: parameters that {manifest.method} does not have here (params.{first_fault(error)}); "
            "use the adjobs version that trained it"
        ) from error
    except (AdjobsError, RuntimeError, MemoryError, ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise StorageError(
            f"detector {folder}: its method cannot be built ({one_line(error)}); use the adjobs version that trained it, and the "
            "packages that it had"
        ) from error


def _find_mismatch(expected: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> str | None:
    """How names and types differ from those of the method; None if they do not."""
    missing, unknown = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing:
        return f"no {_enumerate(missing)}"
    if unknown:
        return f"{_enumerate(unknown)}, which the method does not have"
    for name, tensor in expected.items():
        if weights[name].dtype != tensor.dtype:
            return f"{name} is {weights[name].dtype}, must be {tensor.dtype}"
    return None


def _not_finite(state: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of the tensors with NaN or infinite values."""
    return [name for name, tensor in state.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]


def _enumerate(names: Iterable[str]) -> str:
    """The first name and the number of others."""
    first, *others = names
    return shorten(first, 120) + (f" (and {len(others)} more)" if others else "")
