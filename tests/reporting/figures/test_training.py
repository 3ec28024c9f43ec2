"""The training history."""

from __future__ import annotations

from adjobs.reporting import figures
from tests.helpers.figures import pixels


def test_training_curves_are_in_panels_and_first_record_of_a_checkpoint_counts():
    history = {
        "train/loss": [(1, 3.0), (2, 1.5), (2, 2.0), (3, 1.0)],
        "train/level_1": [(1, 1.0), (2, 1.0), (3, 1.0)],
        "train/lr": [(1, 1e-3), (2, 1e-4), (3, 1e-5)],
        "train/images_per_s": [(1, 9.0)],
        "val/image_auroc": [(1, 0.5), (3, 0.7), (3, 0.5)],  # the model is not the last checkpoint
        "val/pixel_ap": [(3, 0.6)],
    }
    figure = figures.training(history, selected=2)
    assert figure is not None
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Losses", "Validation", "Learning rate"]
    curves = {line.get_label(): line for axes in figure.axes for line in axes.lines if not line.get_label().startswith("_")}
    assert set(curves) == {"loss", "level 1", "image AUROC", "lr"}
    assert list(curves["loss"].get_ydata()) == [3.0, 1.5, 1.0]
    assert list(curves["image AUROC"].get_ydata()) == [0.5, 0.7]
    assert figure.axes[2].get_yscale() == "log"
    assert "the model, checkpoint 2" in figure.axes[-1].get_xlabel()
    assert pixels(figure).std() > 5


def test_training_single_checkpoint_is_a_point_and_none_is_no_figure():
    figure = figures.training({"train/loss": [(1, -0.5)]})
    assert figure is not None
    assert figure.axes[0].lines[0].get_marker() == "o"
    assert figures.training({}) is None
    assert figures.training({"train/images_per_s": [(1, 3.0)]}) is None
