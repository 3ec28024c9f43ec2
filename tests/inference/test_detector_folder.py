"""A detector's folder that was changed is refused in one line, whatever was changed."""

from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from adjobs import methods
from adjobs.data.image_reading import ImageReading
from adjobs.errors import StorageError
from adjobs.evaluation.predictions import ScoreError
from adjobs.inference.detector_folder import WEIGHTS_FILE, save
from adjobs.inference.manifest import MANIFEST_FILE, read_manifest, write_manifest
from adjobs.inference.torch_detector import TorchDetector
from adjobs.methods.discovery import find_packages
from tests.helpers.detectors import make_manifest
from tests.helpers.plugins import write_distribution
from tests.helpers.tiny import tiny_method

ODD_VALUES = [None, "x", "", float("nan"), float("inf"), -1, -1.5, 0, 10**400, 1e308, 5, True, [], {}, [1], {"a": 1}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    """The detector of a method of another package, with every field of the manifest, and weights of one number."""
    root = tmp_path_factory.mktemp("plugin")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root))
        write_distribution(root)
        find_packages.cache_clear()
        loaded = methods.load("brightness")
        config = loaded.config(weights=0.25)
        manifest = make_manifest(
            "brightness",
            config.model_dump(mode="json"),
            pixel=0.5,
            map_floor=0.1,
            normal_train_digest="1" * 64,
            image_reading=ImageReading(white=65535.0, depths="more than 8 bits", darkest_peak=46_576.0),
        )
        save(root / "detector", loaded.build(config, image_size=64, seed=0), manifest)
        yield root / "detector"
    find_packages.cache_clear()
    for module in [name for name in sys.modules if name.partition(".")[0] == "shiny"]:
        del sys.modules[module]


@pytest.fixture(scope="module")
def document(folder) -> dict[str, Any]:
    return json.loads((folder / MANIFEST_FILE).read_text())


@pytest.fixture(scope="module")
def changed(folder, tmp_path_factory) -> Path:
    """A second folder, to be changed."""
    path = tmp_path_factory.mktemp("changed")
    save_file(load_file(folder / WEIGHTS_FILE), path / WEIGHTS_FILE)
    return path


def load(path: Path, text: str | None = None) -> str | None:
    """The error of loading a folder, with another manifest if one is given; None if it loads."""
    if text is not None:
        (path / MANIFEST_FILE).write_text(text)
    message = None
    try:
        TorchDetector.load(path, "cpu")
    except StorageError as error:
        message = str(error)
    assert message is None or (message.startswith(f"detector {path}: ") and "\n" not in message and len(message) < 1000)
    return message


def keys_of(document: dict[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all values in nested mappings."""
    for key, value in document.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from keys_of(value, (*prefix, key))


def replaced(document: dict[str, Any], path: tuple[str, ...], value: object) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    section = changed
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    return changed


def test_load_unchanged_folder_has_its_manifest(folder, document, changed):
    assert load(changed, json.dumps(document)) is None
    manifest = read_manifest(folder)
    assert manifest == read_manifest(changed)
    assert manifest.threshold.value == manifest.pixel_threshold.value == 0.5
    write_manifest(changed, manifest)
    assert json.loads((changed / MANIFEST_FILE).read_text()) == document


def test_load_parameter_called_weights_keeps_its_value(folder):
    """Only the parameters that name pretrained weights are not needed."""
    assert TorchDetector.load(folder, "cpu").method.config.weights == 0.25


def test_load_dropped_keys(document, changed):
    optional = set()
    for path in keys_of(document):
        smaller = copy.deepcopy(document)
        section = smaller
        for key in path[:-1]:
            section = section[key]
        del section[path[-1]]
        message = load(changed, json.dumps(smaller))
        if message is None:
            optional.add(path[-1])
    assert "value" not in optional
    assert not optional & {"method", "params", "image_size", "threshold", "data_fingerprint", "resize_rule", "format", "policy"}


def test_load_odd_values(document, changed):
    for path in keys_of(document):
        for value in ODD_VALUES:
            message = load(changed, json.dumps(replaced(document, path, value)))
            if path in {("threshold", "value"), ("pixel_threshold", "value"), ("map_floor",)} and isinstance(value, float):
                assert (message is None) == (abs(value) <= 1e308), (path, value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("threshold", "value"), float("nan"), "detector.json: threshold.value is nan; must be a finite number"),
        (("threshold", "n_normal"), -1, "threshold.n_normal is -1; must be greater than or equal to 0"),
        (("threshold", "policy"), "best", "threshold.policy is 'best'; must be 'fixed', 'max_f1'"),
        (("threshold", "requested"), None, "policy fixed: got value None, allowed is a finite number"),
        (("image_size",), 50, "image_size is 50; must be a multiple of 32"),
        (("image_size",), 2**40, "image_size is 1099511627776; must be less than or equal to 4096"),
        (("data_fingerprint",), "abc", "data_fingerprint is 'abc'; string should match pattern"),
        (("params", "lr"), -1, r"params that.*|parameters that brightness does not have here \(params.lr is -1; must be greater"),
        (("method",), "brightnes", r"its method cannot be built \(unknown method 'brightnes'; .*did you mean 'brightness'"),
    ],
)
def test_load_says_what_is_wrong(document, changed, path, value, message):
    error = load(changed, json.dumps(replaced(document, path, value)))
    assert error is not None
    assert re.search(message, error)


@pytest.mark.parametrize("stored_format", [2, None, "1", True, [1]])
def test_load_another_format_is_named_before_its_keys(document, changed, stored_format):
    message = load(changed, json.dumps({**document, "format": stored_format, "new_key": 1}))
    assert "this version reads format 1," in message
    assert "new_key" not in message


def test_load_unknown_key_is_named(document, changed):
    assert "detector.json: new_key is 1; extra inputs are not permitted" in load(changed, json.dumps({**document, "new_key": 1}))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"x"', "[" * 100_000, "\0", '{"format": 1', "{}"])
def test_load_not_a_manifest(changed, text):
    assert load(changed, text) is not None


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(data=st.data())
def test_load_several_random_changes(document, changed, data):
    text = document
    for _ in range(data.draw(st.integers(1, 3))):
        paths = list(keys_of(text))
        text = replaced(text, data.draw(st.sampled_from(paths)), data.draw(JSON_VALUES))
    load(changed, json.dumps(text))


@pytest.fixture
def weights(folder, changed, document) -> dict[str, torch.Tensor]:
    (changed / MANIFEST_FILE).write_text(json.dumps(document))
    return load_file(folder / WEIGHTS_FILE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("mean"), "no mean"),
        (lambda state: state.update(more=torch.zeros(2)), "more, which the method does not have"),
        (lambda state: state.update(mean=torch.zeros(2, 1, 1, 1)), "does not fit the method .*size mismatch"),
        (lambda state: state.update(mean=torch.zeros(())), "does not fit the method .*size mismatch"),
        (lambda state: state.update(mean=state["mean"].double()), "mean is torch.float64, must be torch.float32"),
        (lambda state: state.update(mean=state["mean"].long()), "mean is torch.int64, must be torch.float32"),
        (lambda state: state["mean"].fill_(float("nan")), "NaN or infinite values in mean"),
        (lambda state: state["mean"].fill_(-float("inf")), "NaN or infinite values in mean"),
    ],
)
def test_load_other_tensors(weights, changed, change, message):
    change(weights)
    save_file(weights, changed / WEIGHTS_FILE)
    assert re.search(f"weights.safetensors.* {message}", load(changed))


def test_save_values_that_are_not_finite_are_refused(folder, tmp_path):
    method = TorchDetector.load(folder, "cpu").method
    with torch.no_grad():
        method.mean.fill_(float("inf"))
    with pytest.raises(ScoreError, match="trained model: NaN or infinite values in mean; the training diverged: lower"):
        save(tmp_path / "new", method, read_manifest(folder))
    assert not (tmp_path / "new").exists()


def test_load_damaged_file_of_tensors(folder, changed, weights):
    content = (folder / WEIGHTS_FILE).read_bytes()
    for length in (0, 1, 7, 8, 9, 40, len(content) - 1):
        (changed / WEIGHTS_FILE).write_bytes(content[:length])
        assert "cannot be read" in load(changed)
    for position in range(len(content)):  # a byte of the length, of the header or of the numbers
        flipped = bytearray(content)
        flipped[position] ^= 0xFF
        (changed / WEIGHTS_FILE).write_bytes(flipped)
        load(changed)
    (changed / WEIGHTS_FILE).unlink()
    assert "cannot be read" in load(changed)


@pytest.mark.slow
@pytest.mark.parametrize("name", methods.names())
def test_load_reshaped_tensors_of_every_method(name, tmp_path):
    """Buffers that a method sizes by what is stored are validated, too."""
    method = tiny_method(name)
    save(tmp_path, method, make_manifest(name, method.config.model_dump(mode="json")))
    state = load_file(tmp_path / WEIGHTS_FILE)
    resized = [key for key in state if key.rpartition(".")[2] in ("tokens", "image_indices")]
    for key in [next(iter(state)), *resized]:
        save_file({**state, key: state[key][None].contiguous()}, tmp_path / WEIGHTS_FILE)
        assert "does not fit the method" in load(tmp_path)
    if resized:
        save_file({**state, **{key: state[key][:0] for key in resized}}, tmp_path / WEIGHTS_FILE)
        assert "cannot predict" in load(tmp_path)


def test_load_indices_out_of_range(tmp_path):
    method = tiny_method("cdo")
    save(tmp_path, method, make_manifest("cdo", method.config.model_dump(mode="json")))
    state = load_file(tmp_path / WEIGHTS_FILE)
    state["differences.channels"].fill_(10**6)
    save_file(state, tmp_path / WEIGHTS_FILE)
    assert "cannot predict (index 1000000 is out of bounds" in load(tmp_path)
