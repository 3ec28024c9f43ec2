"""``adjobs synth``: the sheet shows what the method does to pictures, and what cannot be shown is said in a line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from adjobs import methods
from adjobs.cli.main import main
from adjobs.synthesis.sheet import GAP, LOGICAL, draw_sheet
from adjobs.types import Simulated
from tests.helpers.drawing import draw_folder
from tests.helpers.tiny import small_params

SIDE = ["--set", "data.image_size=64"]


def small(name: str) -> list[str]:
    """What makes a method's networks small."""
    params = {key: value for key, value in small_params(name).items() if key in ("backbone", "width", "texture_count")}
    return [*SIDE, *(word for key, value in params.items() for word in ("--set", f"params.{key}={value}"))]


def synth(*words: str):
    return CliRunner().invoke(main, ["synth", *words])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return draw_folder(tmp_path_factory.mktemp("drawn"), 20, 5)


@pytest.mark.parametrize("name", [name for name in methods.names() if methods.spec(name).simulates])
def test_a_sheet_has_a_column_for_each_good_picture(name, pictures, tmp_path, own_home):
    words = [name, "--data", str(pictures), *small(name), "--count", "10", "--out", str(tmp_path / "new" / "look"), "--json"]
    done = synth(*words)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert len(result["images"]) == 10
    assert all(image.startswith("good/") for image in result["images"])
    assert 0 < result["changed"] <= 10
    with Image.open(result["out"]) as sheet:
        assert sheet.size == (8 * 64 + 7 * GAP, 2 * (3 * 64 + 2 * GAP) + 4 * GAP)
        first = np.array(sheet)
    synth(*words)
    with Image.open(result["out"]) as again:
        assert np.array_equal(first, np.array(again))
    synth(*words, "--seed", "1")
    with Image.open(result["out"]) as other:
        assert not np.array_equal(first, np.array(other))
    assert [path.name for path in (tmp_path / "new" / "look").iterdir()] == [f"{name}.png"]


def test_a_method_that_simulates_nothing_is_refused_with_those_that_do(pictures):
    done = synth("liac", "--data", str(pictures))
    assert done.exit_code == 2
    assert done.stderr.strip().count("\n") == 0
    assert "method 'liac': simulates no anomalies; those that do: cdo" in done.stderr


def test_the_method_can_be_set_like_any_key(pictures, own_home, tmp_path):
    done = synth("cdo", "--data", str(pictures), "--set", "method=liac", "--out", str(tmp_path))
    assert done.exit_code == 2
    assert "method 'liac': simulates no anomalies" in done.stderr


def test_sheets_show_pictures_anomalies_and_masks_below_each_other():
    images = torch.stack([torch.full((3, 8, 8), grey) for grey in (0.2, 0.4)])
    masks = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    masks[:, :, 2:4, 2:4] = True
    changed = torch.where(masks, 1.0, images)
    sheet = draw_sheet(images, Simulated(changed, masks, torch.tensor([False, True])))
    step = 8 + GAP
    assert sheet.shape == (3 * 8 + 2 * GAP, 2 * 8 + GAP, 3)
    assert (sheet[:8, :8] == 51).all()
    assert (sheet[step + 2 : step + 4, 2:4] == 255).all()
    assert (sheet[step + 4 : step + 8, 4:8] == 51).all()
    assert (sheet[2 * step + 2, 2] == 255).all()
    assert tuple(sheet[2 * step + 2, step + 2]) == LOGICAL
    assert (sheet[2 * step, 0] == 0).all()
