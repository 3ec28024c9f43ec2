"""``pip install 'adjobs[edge]'`` alone, in a fresh environment: exported detectors predict, without PyTorch, below 600 MB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adjobs.inference.export.export import export_detector, open_output
from adjobs.inference.torch_detector import TorchDetector
from tests.helpers.detectors import draw_image, make_manifest
from tests.helpers.folders import delete_unless_failed
from tests.helpers.tiny import CPU, tiny_method

ROOT = Path(__file__).parents[1]
LIMIT = 600 * 10**6  # bytes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory, request) -> Iterator[Path]:
    """A fresh environment with the package and its extra ``edge``."""
    folder = tmp_path_factory.mktemp("edge") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-compile"]
    constraints = folder.parent / "constraints.txt"
    constraints.write_text((ROOT / "requirements.lock").read_text())
    done = subprocess.run(
        [*pip, "--constraint", str(constraints), f"{ROOT}[edge]"], capture_output=True, text=True, check=False, cwd=folder.parent
    )
    if "No matching distribution" in done.stderr and "Could not fetch" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr[-2000:]
    yield folder
    delete_unless_failed(folder, request)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exported")
    image = draw_image(folder / "images", "a.png", (40, 20, 90, 70))
    detector = TorchDetector(tiny_method("cdo").eval(), make_manifest(threshold=1e-9, pixel=0.5, map_floor=0.1), CPU, "torch")
    folders = {format: folder / format for format in ("onnx", "openvino")}
    for format, out in folders.items():
        export_detector(detector, format, open_output(out, format), [image])
    return folders | {"images": folder / "images"}


def run(environment: Path, *arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    # Not in the working tree, whose package would be imported.
    env = {"PATH": os.environ["PATH"], "ADJOBS_HOME": str(home)}
    command = [str(environment / "bin" / arguments[0]), *arguments[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=home, timeout=300)


def test_edge_environment_is_small_and_has_no_pytorch(environment, tmp_path):
    files = [path for path in environment.rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum(path.stat().st_size for path in files) < LIMIT
    packages = "torch", "torchvision", "timm", "ray", "mlflow", "matplotlib"
    code = f"import importlib.util as util; print([name for name in {packages} if util.find_spec(name)])"
    assert run(environment, "python", "-c", code, home=tmp_path).stdout == "[]\n"


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_edge_predict_takes_an_exported_folder(environment, exported, format, tmp_path):
    arguments = "predict", "--model", str(exported[format]), str(exported["images"]), "--out", str(tmp_path / "out"), "--json"
    done = run(environment, "adjobs", *arguments, home=tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = json.loads(done.stdout)["predictions"]
    assert line["decision"] == "anomalous"
    assert Path(line["overlay"]).is_file()
    code = f"import adjobs; print(adjobs.load_detector({str(exported[format])!r})({str(exported['images'] / 'a.png')!r}).score)"
    assert float(run(environment, "python", "-c", code, home=tmp_path).stdout) == pytest.approx(line["score"], rel=1e-6)


@pytest.mark.parametrize("arguments", [["train", "--method", "cdo", "--data", "images", "--local"], ["models", "list"]])
def test_edge_other_verbs_say_what_to_install(environment, arguments, tmp_path):
    done = run(environment, "adjobs", *arguments, home=tmp_path)
    assert done.returncode == 2
    assert done.stderr.endswith("is not installed; run: pip install 'adjobs[train]'\n")
    assert done.stderr.count("\n") == 1
