"""Methods in other installed distributions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import adjobs
from adjobs import methods
from adjobs.errors import JobError
from adjobs.methods.discovery import MethodPackage, find_packages
from tests.helpers.drawing import draw_folder
from tests.helpers.plugins import run_with_plugins, write_distribution, write_project

PRINT_JOB = """
from adjobs import methods
from adjobs.config.resolve import resolve

job = resolve({"method": "brightness", "data": {"uri": "x"}, "preset": "fast"})
print(job.params, sorted(methods.path_params("brightness")), repr(methods.card("brightness")))
import sys
assert "torch" not in sys.modules
"""


@pytest.fixture
def plugins(tmp_path, monkeypatch) -> Path:
    """A folder on the search path of this process, for distributions, whose methods are found afresh."""
    monkeypatch.syspath_prepend(str(tmp_path))
    find_packages.cache_clear()
    yield tmp_path
    find_packages.cache_clear()
    for module in [name for name in sys.modules if name.partition(".")[0] == "shiny"]:
        del sys.modules[module]


def test_find_packages_built_in_methods_are_subpackages():
    assert find_packages()["cdo"] == MethodPackage("adjobs.methods.cdo", None)
    assert "contract" not in find_packages()


def test_find_packages_entry_points_are_methods(plugins):
    write_distribution(plugins)
    assert find_packages()["brightness"] == MethodPackage("shiny.brightness", "shiny-methods 1.2")
    assert list(find_packages()) == sorted(find_packages())
    assert methods.spec("brightness").title == "Brightness"
    assert "shiny.brightness.model" not in sys.modules


def test_find_packages_name_of_a_built_in_method_is_refused(plugins):
    write_distribution(plugins, method="cdo")
    message = r"^method 'cdo': provided by adjobs itself and shiny-methods 1\.2 \(shiny\.brightness\); uninstall one$"
    with pytest.raises(JobError, match=message):
        methods.names()


def test_find_packages_name_of_another_distributions_method_is_refused(plugins):
    write_distribution(plugins)
    write_distribution(plugins, package="shiny2", distribution="other-methods")
    with pytest.raises(JobError, match=r"method 'brightness': provided by .*shiny\.brightness.* and .*shiny2\.brightness"):
        methods.names()


@pytest.mark.parametrize(
    ("content", "reason"), [("import no_such_module", "No module named 'no_such_module'"), ("", "has no attribute 'SPEC'")]
)
def test_spec_broken_package_is_refused_in_a_line(plugins, content, reason):
    write_distribution(plugins)
    (plugins / "shiny" / "brightness" / "__init__.py").write_text(content)
    with pytest.raises(JobError, match=f"^method 'brightness' of shiny-methods 1.2 .*cannot be imported .*{reason}") as error:
        methods.spec("brightness")
    assert "\n" not in str(error.value)


def test_card_package_without_one_has_none(plugins):
    write_distribution(plugins)
    assert methods.card("brightness") == "# brightness\n"
    (plugins / "shiny" / "brightness" / "README.md").unlink()
    assert methods.card("brightness") is None


def test_importing_methods_does_not_search_for_packages():
    code = (
        "from adjobs.methods.discovery import find_packages; import adjobs.cli.main; assert not find_packages.cache_info().misses"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_method_of_a_distribution_is_trained_like_a_built_in_one(plugins, monkeypatch):
    write_distribution(plugins)
    monkeypatch.setenv("ADJOBS_HOME", str(plugins / "home"))
    data = draw_folder(plugins / "data", 20, 10)
    job = {"method": "brightness", "data": {"uri": str(data), "image_size": 64}, "preset": "fast", "track": "none"}
    result = adjobs.train(job, progress=False)
    assert (result.method, result.selected_checkpoint) == ("brightness", 1)
    detector = adjobs.load_detector(result.model)
    assert detector.method.state_dict()["mean"].item() > 0
    assert detector(next(data.rglob("*.png"))).anomaly_map.shape == (64, 64)


@pytest.mark.slow
def test_installed_method_is_listed_resolved_and_trained(tmp_path):
    """With a real installation by pip."""
    write_project(tmp_path / "source")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    installed = tmp_path / "installed"
    done = subprocess.run(
        [*install, "--target", str(installed), str(tmp_path / "source")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    done = run_with_plugins(installed, "-m", "adjobs", "methods")
    assert "brightness\n  Brightness" in done.stdout
    done = run_with_plugins(installed, "-c", PRINT_JOB)
    assert done.stdout.strip() == "{'lr': 0.5, 'reference': 'none', 'weights': 1.0} ['reference'] '# brightness\\n'"
    job = {
        "method": "brightness",
        "data": {"uri": str(draw_folder(tmp_path / "data", 20, 10)), "image_size": 64},
        "track": "none",
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    env = {"ADJOBS_HOME": str(tmp_path / "home")}
    done = run_with_plugins(installed, "-m", "adjobs", "train", str(tmp_path / "job.yaml"), "--local", "--json", **env)
    assert json.loads(done.stdout)["method"] == "brightness"
