"""Many images in this process: what is counted, what is kept, and which detector it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adjobs import methods
from adjobs.config.settings import Settings
from adjobs.errors import StorageError
from adjobs.inference.detector_folder import save
from adjobs.inference.results import LINES_FILE, TABLE_FILE
from adjobs.jobs.predict import PredictOptions, identify, predict_batch
from adjobs.storage import open_store
from tests.helpers.detectors import draw_image, make_manifest
from tests.helpers.s3 import s3_environment, server  # noqa: F401 (fixtures)
from tests.helpers.tiny import small_params, tiny_method


def save_detector(folder: Path, threshold: float, **params: object) -> Path:
    config = methods.load("cdo").config(**{**small_params("cdo"), **params})
    manifest = make_manifest("cdo", config.model_dump(mode="json"), pixel=0.5, threshold=threshold)
    save(folder, tiny_method("cdo", **params), manifest)
    return folder


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> Path:
    return save_detector(tmp_path_factory.mktemp("detector"), 0.5)


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings.from_env({"HOME": str(tmp_path), "ADJOBS_HOME": str(tmp_path / "home")})


def draw_images(folder: Path, count: int) -> list[str]:
    return [str(draw_image(folder, f"{i:03}.png", (0, 0, 20 + 3 * i, 20 + i))) for i in range(count)]


class Interrupting:
    """Interrupts after some lines, as Ctrl-C does."""

    def __init__(self, after: int) -> None:
        self.after, self.lines, self.state = after, [], (0, 0)

    def started(self, total: int, kept: int) -> None:
        self.state = total, kept

    def predicted(self, line: dict) -> None:
        self.lines.append(line)
        if len(self.lines) == self.after:
            raise KeyboardInterrupt


def test_predict_batch_that_is_interrupted_is_resumed_to_the_same_lines(tmp_path, settings, detector):
    names = draw_images(tmp_path / "images", 30)
    Path(names[3]).write_bytes(b"not an image")
    options = PredictOptions(engine="torch", format="parquet")
    whole = predict_batch(detector, names, tmp_path / "whole", settings, options)
    assert (whole.images, whole.kept, whole.failed) == (30, 0, 1)
    with pytest.raises(KeyboardInterrupt):
        predict_batch(detector, names, tmp_path / "out", settings, options, Interrupting(11))
    assert not (tmp_path / "out" / TABLE_FILE).exists()
    observer = Interrupting(0)
    result = predict_batch(detector, names, tmp_path / "out", settings, PredictOptions(resume=True), observer)
    assert observer.state == (30, 10)
    assert (result.images, result.kept, len(observer.lines)) == (30, 10, 20)
    lines, expected = [
        sorted(
            (json.loads(line) for line in (tmp_path / folder / LINES_FILE).read_text().splitlines()),
            key=lambda line: line["path"],
        )
        for folder in ("out", "whole")
    ]
    assert [line["path"] for line in lines] == names
    for line, other in zip(lines, expected, strict=True):
        assert line.keys() == other.keys()
        if "error" not in line:
            assert line["score"] == pytest.approx(other["score"], rel=1e-5)
            assert (line["decision"], line["regions"]) == (other["decision"], other["regions"])


def test_predict_batch_without_overlays_draws_none(tmp_path, settings, detector):
    names = draw_images(tmp_path / "images", 3)
    result = predict_batch(str(detector), names, tmp_path / "out", settings, PredictOptions(overlays=False))
    assert not list((tmp_path / "out").glob("*.png"))
    assert result.images_per_s is not None
    assert result.to_dict()["file"] == str(tmp_path / "out" / LINES_FILE)


def test_identify_weights_or_threshold_make_another_detector(tmp_path, detector):
    identity = identify(detector, "x")
    assert identity == identify(save_detector(tmp_path / "same", 0.5), "x")
    digests = {identity.digest}
    for name, threshold, params in (("threshold", 0.6, {}), ("weights", 0.5, {"distance": "euclidean"})):
        digests.add(identify(save_detector(tmp_path / name, threshold, **params), "x").digest)
    assert len(digests) == 3


def test_predict_batch_resumed_with_another_threshold_is_refused_before_anything_is_written(tmp_path, settings, detector):
    names = draw_images(tmp_path / "images", 2)
    predict_batch(detector, names[:1], tmp_path / "out", settings)
    content = (tmp_path / "out" / LINES_FILE).read_bytes()
    other = save_detector(tmp_path / "other", 0.6)
    with pytest.raises(StorageError, match=r"threshold 0\.5, not of .*, threshold 0\.6; resume with"):
        predict_batch(other, names, tmp_path / "out", settings, PredictOptions(resume=True))
    assert (tmp_path / "out" / LINES_FILE).read_bytes() == content


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_predict_batch_objects_have_the_scores_of_files_and_missing_ones_errors(tmp_path, settings, detector):
    names = draw_images(tmp_path / "images", 9)
    Path(names[2]).write_bytes(b"not an image")
    store = open_store("s3://adjobs/batch")
    for name in names:
        store.put(Path(name), Path(name).name)
    addresses = [f"s3://adjobs/batch/{Path(name).name}" for name in names] + ["s3://adjobs/batch/missing.png"]
    for folder, images in (("local", names), ("s3", addresses)):
        predict_batch(detector, images, tmp_path / folder, settings, PredictOptions(engine="torch"))
    local, remote = [
        [json.loads(line) for line in (tmp_path / folder / LINES_FILE).read_text().splitlines()] for folder in ("local", "s3")
    ]
    assert [line["path"] for line in remote] == addresses
    assert [line.get("score") for line in remote[:-1]] == [line.get("score") for line in local]
    assert [line.get("regions") for line in remote[:-1]] == [line.get("regions") for line in local]
    assert remote[2]["error"].startswith("s3://adjobs/batch/002.png: is not a supported image")
    assert "no such object" in remote[-1]["error"]
