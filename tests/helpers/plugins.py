"""A method in another distribution, installed in a folder that is put on the module search path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

INIT = """
from adjobs.methods.contract import Selection, Spec

SPEC = Spec(
    title="Brightness",
    paper="nobody: nothing, 2020",
    supervisions=("none",),
    gives_map=True,
    selection=Selection("last", "image_auroc"),
    threshold=("max_fpr", 0.01),
)
"""
CONFIG = """
from typing import Annotated

from pydantic import Field

from adjobs.methods.contract import MethodConfig, PathParam

PRESETS = {"fast": {"lr": 0.5}}


class Config(MethodConfig):
    lr: float = Field(0.1, gt=0, description="learning rate")
    reference: Annotated[str, PathParam(("none",))] = Field("none", description="an image")
    weights: float = Field(1.0, ge=0, description="weight of the loss")
"""
MODEL = """
import torch

from adjobs.methods.contract import BatchComposition, Stage
from adjobs.methods.method import Method
from adjobs.types import Prediction, StepLoss


class Brightness(Method):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.mean = torch.nn.Parameter(torch.zeros(1, 1, 1, 1))

    def stages(self):
        optimizer = lambda: torch.optim.SGD(self.parameters(), self.config.lr)
        return [Stage("fit", self, optimizer, BatchComposition(normal=4), steps=2)]

    def forward(self, batch):
        loss = (batch.images - self.mean).square().mean()
        return StepLoss(loss, {"error": loss.detach()})

    @torch.no_grad()
    def predict(self, images):
        maps = (images - self.mean).square().mean(1, keepdim=True)
        return Prediction(maps.mean((1, 2, 3)), maps)


def build(config, *, image_size, seed):
    return Brightness(config)
"""
PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "{distribution}"
version = "1.2"

[project.entry-points."adjobs.methods"]
{method} = "{package}.brightness"

[tool.setuptools]
packages = ["{package}", "{package}.brightness"]

[tool.setuptools.package-data]
"{package}.brightness" = ["README.md"]
"""


def write_package(root: Path, package: str = "shiny") -> None:
    """Write the Python package ``package`` with the method in ``package.brightness``."""
    folder = root / package / "brightness"
    folder.mkdir(parents=True)
    (root / package / "__init__.py").touch()
    for name, content in (("__init__.py", INIT), ("config.py", CONFIG), ("model.py", MODEL)):
        (folder / name).write_text(content)
    (folder / "README.md").write_text("# brightness\n")


def write_distribution(
    root: Path, method: str = "brightness", package: str = "shiny", distribution: str = "shiny-methods"
) -> None:
    """Write what an installation leaves: the package, and its metadata with the entry point."""
    write_package(root, package)
    metadata = root / f"{distribution.replace('-', '_')}-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text(f"[adjobs.methods]\n{method} = {package}.brightness\n")


def write_project(root: Path, method: str = "brightness", package: str = "shiny", distribution: str = "shiny-methods") -> None:
    """Write the source of a distribution, to be installed with pip."""
    write_package(root, package)
    (root / "pyproject.toml").write_text(PYPROJECT.format(method=method, package=package, distribution=distribution))


def run_with_plugins(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``python ARGUMENTS`` with a folder of installed distributions on the module search path."""
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **env, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done
