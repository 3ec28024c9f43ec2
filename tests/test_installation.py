"""An editable installation is found from every folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
BUILD = "import sys; from setuptools.build_meta import build_editable; build_editable(sys.argv[1])"
IMPORT = "import site, sys; site.addsitedir(sys.argv[1]); import adjobs; print(adjobs.__file__, adjobs.__version__)"


def run(code: str, argument: Path, folder: Path, *options: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [sys.executable, *options, "-c", code, str(argument)]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_import_beside_the_clone_is_the_package_and_not_the_clone(tmp_path: Path) -> None:
    clone, site = tmp_path / "adjobs", tmp_path / "site"
    (clone / "adjobs").mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE", "adjobs/__init__.py", "adjobs/version.py"):
        shutil.copy(ROOT / name, clone / name)
    site.mkdir()
    run(BUILD, site, clone)
    (wheel,) = site.glob("*.whl")
    with ZipFile(wheel) as archive:
        archive.extractall(site)
    # -S: without what is installed in this environment, such as adjobs itself.
    assert run(IMPORT, site, tmp_path, "-S").split()[0] == str(clone / "adjobs" / "__init__.py")
