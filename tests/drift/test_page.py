"""The page embeds all that it shows, and escapes what comes from outside."""

from __future__ import annotations

import numpy as np

from adjobs.data.image_reading import DEFAULT_READING
from adjobs.drift.describe import DescribedImages
from adjobs.drift.images import ImageFile
from adjobs.drift.options import DriftOptions
from adjobs.drift.page import DriftPage, share
from adjobs.drift.result import DifferentImage, DriftResult
from adjobs.drift.verdict import compare_samples
from adjobs.metrics.intervals import Estimate, proportion
from tests.drift.test_verdict import sample
from tests.helpers.drawing import save

EVIL = "<script>alert(1)</script>.png"


def draw_page(tmp_path, recent_images: int, shift: float = 0.0) -> str:
    old, new = sample(60, 0), sample(recent_images, 1, shift=shift)
    options = DriftOptions()
    verdict = compare_samples(old, new, options, np.random.default_rng(0))
    file = ImageFile(EVIL, save(tmp_path / "a.png", np.zeros((300, 500, 3), np.uint8)))
    gone = ImageFile("gone.png", tmp_path / "gone.png")
    different = tuple(DifferentImage(each.name, 1.0, 2.0, "score 1, reference 2 to 3") for each in (file, gone))
    result = DriftResult(
        model=f"models:/{EVIL}",
        run_id="run",
        threshold=0.5,
        verdict=verdict,
        reference_alarms=proportion(1, 60),
        recent_alarms=proportion(0, recent_images),
        n_reference=60,
        n_recent=recent_images,
        n_available=recent_images,
        unreadable=(),
        different=different,
        notes=(f"note of {EVIL}",),
        options=options,
    )
    described = [DescribedImages(files, table, [], 0) for files, table in (([file], old), ([file, gone], new))]
    return DriftPage(result, *described, DEFAULT_READING).render()


def test_render_escapes_names_and_loads_nothing(tmp_path):
    page = draw_page(tmp_path, 60)
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert page.count('src="data:image/jpeg;base64,') == 2
    assert page.count('src="data:image/png;base64,') == 1
    assert page.count("cannot be read") == 1


def test_render_each_outcome_has_a_heading(tmp_path):
    assert "<h1>No drift shown</h1>" in draw_page(tmp_path, 60)
    assert "<h1>Drift</h1>" in draw_page(tmp_path, 60, shift=3)
    assert "<h1>Cannot tell</h1>" in draw_page(tmp_path, 5)


def test_share_has_one_digit_behind_the_point():
    assert share(proportion(1, 8)) == "12.5 % (0.3 to 52.7 %)"
    assert share(proportion(8, 8)) == "100 % (63.1 to 100 %)"
    assert share(Estimate(None)) == "–"
