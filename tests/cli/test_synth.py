"""``adjobs synth``: the contact sheet, and errors in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from adjobs import methods
from adjobs.cli.main import main
from adjobs.storage.outputs import OUTPUTS_FILE
from adjobs.synthesis.contact_sheet import GAP
from tests.helpers.drawing import draw_folder
from tests.helpers.tiny import small_params


def small_overrides(name: str) -> list[str]:
    """Overrides that make a method's networks small."""
    params = {key: value for key, value in small_params(name).items() if key in ("backbone", "width", "texture_count")}
    overrides = {"data.image_size": 64, **{f"params.{key}": value for key, value in params.items()}}
    return [argument for key, value in overrides.items() for argument in ("--set", f"{key}={value}")]


def synth(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["synth", *arguments])


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return draw_folder(tmp_path_factory.mktemp("drawn"), 20, 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in methods.names() if methods.spec(name).simulates])
def test_synth_draws_a_column_per_normal_image_and_is_deterministic(name, images, tmp_path, own_home):
    out = tmp_path / "new" / "sheets"
    arguments = [name, "--data", str(images), *small_overrides(name), "--count", "10", "--out", str(out), "--json"]
    done = synth(*arguments)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert len(result["images"]) == 10
    assert all(image.startswith("good/") for image in result["images"])
    assert 0 < result["changed"] <= 10
    with Image.open(result["out"]) as sheet:
        assert sheet.size == (8 * 64 + 7 * GAP, 2 * (3 * 64 + 2 * GAP) + 4 * GAP)
        first = np.array(sheet)
    synth(*arguments)
    with Image.open(result["out"]) as repeated:
        assert np.array_equal(first, np.array(repeated))
    synth(*arguments, "--seed", "1")
    with Image.open(result["out"]) as other_seed:
        assert not np.array_equal(first, np.array(other_seed))
    assert {path.name for path in out.iterdir()} == {f"{name}.png", OUTPUTS_FILE}


def test_synth_method_without_simulation_is_refused_with_those_that_simulate(images):
    done = synth("liac", "--data", str(images))
    assert done.exit_code == 2
    assert done.stderr.strip().count("\n") == 0
    assert "method 'liac' simulates no anomalies; available: cdo" in done.stderr


def test_synth_sheet_in_the_data_set_is_refused(images, own_home):
    done = synth("cdo", "--data", str(images), "--out", str(images / "sheets"))
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert "is in the data set" in done.stderr
    assert not (images / "sheets").exists()


def test_synth_set_can_override_the_method(images, own_home, tmp_path):
    done = synth("cdo", "--data", str(images), "--set", "method=liac", "--out", str(tmp_path))
    assert done.exit_code == 2
    assert "method 'liac' simulates no anomalies" in done.stderr
