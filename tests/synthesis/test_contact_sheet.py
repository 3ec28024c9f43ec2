"""Contact sheets of simulated anomalies."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from adjobs.synthesis.contact_sheet import GAP, LOGICAL_COLOUR, draw_contact_sheet, save_contact_sheet
from adjobs.types import Simulated


def test_draw_contact_sheet_stacks_image_anomaly_and_mask():
    images = torch.stack([torch.full((3, 8, 8), grey) for grey in (0.2, 0.4)])
    masks = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    masks[:, :, 2:4, 2:4] = True
    changed = torch.where(masks, 1.0, images)
    sheet = draw_contact_sheet(images, Simulated(changed, masks, torch.tensor([False, True])))
    step = 8 + GAP
    assert sheet.shape == (3 * 8 + 2 * GAP, 2 * 8 + GAP, 3)
    assert (sheet[:8, :8] == 51).all()
    assert (sheet[step + 2 : step + 4, 2:4] == 255).all()
    assert (sheet[step + 4 : step + 8, 4:8] == 51).all()
    assert (sheet[2 * step + 2, 2] == 255).all()
    assert tuple(sheet[2 * step + 2, step + 2]) == LOGICAL_COLOUR
    assert (sheet[2 * step, 0] == 0).all()


def test_save_contact_sheet_replaces_the_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "cdo.png"
    path.write_bytes(b"an older sheet")
    sheet = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    save_contact_sheet(sheet, path)
    with Image.open(path) as image:
        assert np.array_equal(np.array(image), sheet)
    assert list(tmp_path.iterdir()) == [path]
