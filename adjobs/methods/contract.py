"""What every method promises: how it is described, trained and asked.

A method is a folder of :mod:`adjobs.methods` with ``__init__.py`` (``SPEC``), ``config.py`` (``Config``), ``model.py``
(``build``), ``loss.py`` and ``README.md`` (its card).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from adjobs.types import Batch, Prediction, StepLoss

T = TypeVar("T")

Supervision = Literal["none", "image labels", "masks", "blocks", "boxes"]
Policy = Literal["fixed", "max_f1", "max_fpr", "miss_cost", "defect_ratio"]


@dataclass(frozen=True)
class Selection:
    """Which checkpoint becomes the model.

    Attributes:
        rule: ``last`` (the last iterate) or ``best`` (the best on validation, of equals the latest; the last where validation has
            no anomalies).
        metric: the image metric on validation, higher is better, that ranks checkpoints and searches: ``image_auroc``,
            ``image_ap``, ``image_f1max``, or ``image_macro_f1_at_0.5`` and the like for a method whose own threshold is fixed.
    """

    rule: Literal["last", "best"]
    metric: str


class WarmStart(NamedTuple):
    """How a method begins with what another run of it has learnt from the same data.

    Attributes:
        param: parameter that names a run or a model; its weights are given to ``load_pretrained(weights)`` before the first stage.
        must_match: parameters in which both runs must agree.
        required_values: parameters that the other run must have, with their values.
    """

    param: str
    must_match: tuple[str, ...]
    required_values: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Spec:
    """What a method states of itself.

    Attributes:
        title: its name in words.
        paper: authors, venue and year.
        supervisions: label kinds that it can learn from; ``none`` means that normal images alone are enough.
        gives_map: whether it locates what it finds.
        map_switch: boolean parameter without which it gives no map; None where it always does, or never.
        simulates: whether it trains on simulated anomalies; then ``simulate(batch) -> Simulated`` puts them on the images that
            ``batch.simulate`` marks. One that learns by filling in what is masked also has ``fill(images, generator)``, which
            gives masked and filled pictures to look at.
        selection: which checkpoint becomes the model.
        threshold: default policy and its value.
        warm_start: how it begins with another run's weights; None where it cannot.
    """

    title: str
    paper: str
    supervisions: tuple[Supervision, ...]
    gives_map: bool
    selection: Selection
    threshold: tuple[Policy, float | None]
    map_param: str | None = None
    simulates: bool = False
    warm_start: WarmStart | None = None

    @property
    def native_threshold(self) -> float | None:
        """Where the method itself decides, whatever the job asks for; None for methods whose scale means nothing."""
        policy, value = self.threshold
        return value if policy == "fixed" else None


class MethodConfig(BaseModel):
    """Base of every method's configuration: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @property
    def supervision_used(self) -> Supervision:
        """The labels of anomalies that a run with these parameters learns from; it is shown no finer ones."""
        return "none"


class BatchComposition(NamedTuple):
    """How many images of each kind make one global batch.

    Attributes:
        natural: drawn from the whole training part as it is, labels and all.
        normal: normal images left as they are.
        simulated: normal images on which the method simulates an anomaly.
        anomalous: labelled anomalies, drawn over and over.
    """

    all_labels: int = 0
    normal: int = 0
    simulated: int = 0
    anomalous: int = 0


class Progress(NamedTuple):
    """Where a stage stands: ``epoch`` from 0, and ``done``, the share of its steps taken, in [0, 1)."""

    epoch: int
    done: float


@dataclass(frozen=True)
class Stage:
    """One part of a method's training.

    Attributes:
        name: shown in logs and prefixed to metrics when a method has several stages.
        module: its ``forward(batch) -> StepLoss`` is trained; wrapped by DistributedDataParallel when there are workers. Of
            its parameters those that the optimizer holds are trained, the others frozen.
        optimizer: makes the optimizer, with its parameter groups and their learning rates; None for a stage that only prepares.
        mix: the global batch.
        epochs: length in passes over the normal (``all_labels``: all) training images; 0 when ``steps`` is given.
        steps: length in optimizer steps; 0 when ``epochs`` is given.
        schedule: factor on every group's learning rate.
        clip_norm: largest gradient norm; None for no clipping.
        prepare: work without gradients before the first step (statistics, memory bank); its result lives in the module's
            buffers, so that a resumed stage does not repeat it.
        attach: called after that and before the first step, also of a resumed stage: opens what the stage needs beside its state.
        calibrate: work without gradients before each validation and after the last round: what scores need to know of the
            training images beside what was learnt. Every worker does it, the first one's buffers win. It draws nothing, leaves
            the mode and all that training uses as they are, and its result lives in buffers.
        predicts: whether the method can be asked for predictions after a round of this stage; else nothing is validated then.
        sized_by: the method's parameters that set the mix, to be named where it does not fit the data or the workers.
        depends_on: the parameters that decide on its outcome, where later stages have others of their own: trials of a search
            that agree in them train it once.
    """

    name: str
    module: nn.Module
    optimizer: Callable[[], Optimizer] | None
    mix: BatchComposition = field(default_factory=BatchComposition)
    epochs: int = 0
    steps: int = 0
    schedule: Callable[[Progress], float] = lambda progress: 1.0
    clip_norm: float | None = None
    prepare: Callable[[TrainingImages], None] | None = None
    on_stage_start: Callable[[TrainingImages], None] | None = None
    fit_statistics: Callable[[TrainingImages], None] | None = None
    predicts: bool = True
    size_params: tuple[str, ...] = ("batch_size",)
    depends_on: Mapping[str, Any] | None = None


class TrainingImages(Protocol):
    """What ``prepare`` may see: the training part, one pass at a time, in the order of the sample ids."""

    @property
    def n_normal(self) -> int:
        """Number of normal training images."""
        ...

    @property
    def n_anomalous(self) -> int:
        """Number of labelled anomalies in the training part."""
        ...

    def normal(self, size: int) -> Iterator[Batch]:
        """Batches of up to ``size`` normal images."""
        ...

    def anomalous(self, size: int) -> Iterator[Batch]:
        """Batches of up to ``size`` labelled anomalies."""
        ...

    def compute_once(self, name: str, key: Mapping[str, Any], read: Callable[[Path], T | None], build: Callable[[Path], None]) -> T:
        """What depends on these images and ``key`` alone: read from a folder of this machine, which ``build`` fills once."""
        ...


class Method(Protocol):
    """An ``nn.Module`` that can be trained in stages and asked for predictions."""

    def stages(self) -> Sequence[Stage]:
        """The stages in order; cheap to call, touches no data."""
        ...

    def forward(self, batch: Batch) -> StepLoss:
        """Training and nothing else. Gradients are synchronised between workers only through this call."""
        ...

    def predict(self, images: Tensor) -> Prediction:
        """Inference and nothing else: ``(B, 3, H, W)`` in [0, 1] to scores and maps, no thresholds, no gradients."""
        ...


class MethodFactory(Protocol):
    """Makes a method with its pretrained and its random weights."""

    def __call__(self, config: Any, *, image_size: int, seed: int) -> nn.Module:
        """A method of this configuration."""
        ...


class LoadedMethod(NamedTuple):
    """A loaded method.

    Attributes:
        name: its name.
        spec: what it states of itself.
        config: its configuration class.
        build: ``build(config, image_size=…, seed=…) -> Method``; images are squares of ``image_size`` pixels, a multiple of 32.
    """

    name: str
    spec: Spec
    config: type[MethodConfig]
    build: MethodFactory
