"""The contract of a method: how it is described, configured and trained.

A method is a package of :mod:`adjobs.methods`, or of another distribution (see :mod:`adjobs.methods.discovery`), with

- ``__init__.py``: ``SPEC``, a :class:`Spec`;
- ``config.py``: ``Config``, a :class:`MethodConfig`, and ``PRESETS``, sets of its parameters by name;
- ``model.py``: ``build``, an :class:`adjobs.methods.method.MethodFactory`;
- ``README.md``: its card, which starts with ``# name``.

Only ``model.py``, and what it imports, may import torch: job files are read without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from adjobs.metrics.policies import Policy

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn
    from torch.optim import Optimizer

    from adjobs.types import Batch

T = TypeVar("T")

Supervision = Literal["none", "image labels", "masks", "blocks", "boxes"]

ImageSize = Annotated[int, Field(ge=32, le=4096, multiple_of=32)]
"""Side in pixels of the squares that methods see."""


@dataclass(frozen=True)
class Selection:
    """Which checkpoint becomes the model.

    Attributes:
        rule: ``last``, or ``best``: the one with the best metric on validation, the latest of equals. Without anomalies in
            validation, ``best`` is the last, too.
        metric: image metric on validation that ranks checkpoints and trials of a search, higher is better: ``image_auroc``,
            ``image_ap``, ``image_f1max``, or, for a method with a native threshold, ``image_macro_f1_at_0.5`` and the like.
    """

    rule: Literal["last", "best"]
    metric: str


class WarmStart(NamedTuple):
    """How a method starts with what another of its runs learned from the same training data.

    Attributes:
        param: parameter that names the run or model, whose state `Method.load_pretrained` gets before the first stage.
        must_match: parameters that must be equal in both runs.
        required_values: parameters of the other run, and the values they must have.
    """

    param: str
    must_match: tuple[str, ...]
    required_values: tuple[tuple[str, Any], ...] = ()


class LabelParam(NamedTuple):
    """The parameter by which a method learns from more labels than by default.

    Attributes:
        supervision: the labels that it then learns from.
        param: its name.
        value: one with which the method does.
    """

    supervision: Supervision
    param: str
    value: bool | int | str


class PlaceParam(NamedTuple):
    """The parameter that depends on what the places of an image are best compared with (:mod:`adjobs.data.places`).

    Attributes:
        param: its name; its value ``auto`` leaves the choice to what is measured on the normal training images.
        same_place: its value where that is the same place of normal images, and where nothing can be measured.
        any_place: its value where it is any place of them.
        only_with: another parameter and its value, without which ``auto`` is ``any_place`` and nothing is measured.
    """

    param: str
    same_place: str
    any_place: str
    only_with: tuple[str, str] | None = None


@dataclass(frozen=True)
class Spec:
    """What adjobs knows of a method before it is configured.

    Attributes:
        title: its full name.
        paper: authors, title, venue and year.
        supervisions: kinds of labels it can learn from; ``none`` if normal images alone are enough.
        gives_map: whether it localises anomalies.
        selection: which checkpoint becomes the model.
        threshold: default policy, and the policy's value.
        map_param: boolean parameter that turns anomaly maps on; None if they are always there, or never.
        simulates: whether it trains on simulated anomalies; then it implements `Method.simulate`.
        warm_start: how it starts with another run's state; None if it cannot. Otherwise it implements `Method.load_pretrained`.
        label_params: for each of ``supervisions`` that the defaults do not use, how to use it.
        place_param: which parameter depends on what places are best compared with; None if none does.
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
    label_params: tuple[LabelParam, ...] = ()
    place_param: PlaceParam | None = None

    @property
    def native_threshold(self) -> float | None:
        """The threshold that the method itself defines, regardless of the job's; None if its scores have no such scale."""
        policy, value = self.threshold
        return value if policy == "fixed" else None


@dataclass(frozen=True)
class PathParam:
    """Marks a parameter that names a file, a folder or a URI.

    It belongs to the whole type: ``weights: Annotated[str, PathParam(("none",))]``, or
    ``folder: Annotated[str | None, PathParam()]``.
    The launcher makes such paths absolute, because workers run in other folders.

    Attributes:
        keywords: values that are not paths, even if a file of that name exists.
    """

    keywords: tuple[str, ...] = ()


PRETRAINED_WEIGHTS = PathParam(("auto", "packaged", "timm", "none"))

# The type of the parameter that `adjobs.backbones.create_backbone` gets as ``weights``.
BackboneWeights = Annotated[str, PRETRAINED_WEIGHTS]


class MethodConfig(BaseModel):
    """Base class of the configurations of methods: frozen; unknown keys, and values of another type, are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False)

    @property
    def supervision_used(self) -> Supervision:
        """The labels of anomalies that a run with these parameters learns from; finer labels are withheld from it."""
        return "none"


class BatchComposition(NamedTuple):
    """Number of images of each kind in a global batch.

    Attributes:
        all_labels: drawn from the whole training split, regardless of labels.
        normal: normal images, unchanged.
        simulated: normal images on which the method simulates an anomaly.
        anomalous: labelled anomalies, repeated as often as needed.
    """

    all_labels: int = 0
    normal: int = 0
    simulated: int = 0
    anomalous: int = 0


class Progress(NamedTuple):
    """Position within a stage: ``epoch`` from 0, and ``done``, the fraction of its steps taken, in [0, 1)."""

    epoch: int
    done: float


@dataclass(frozen=True)
class Stage:
    """One stage of a method's training.

    Attributes:
        name: for logs, and the prefix of training metrics if a method has several stages.
        module: its ``forward(batch) -> StepLoss`` is trained, through DistributedDataParallel if there are several workers.
            Only those of its parameters that the optimizer holds are trained; the others are frozen.
        optimizer: makes the optimizer with its parameter groups and learning rates; None for a stage that only prepares.
        mix: composition of the global batch.
        epochs: length in passes over the normal training images (with ``mix.all_labels``, over all of them); 0 if ``steps`` is
            set.
        steps: length in optimizer steps; 0 if ``epochs`` is set.
        schedule: factor on the learning rate of every parameter group.
        clip_norm: maximum gradient norm; None for no clipping.
        prepare: runs before the first step, without gradients (statistics, memory bank). Its result is stored in the module's
            buffers, so a resumed stage does not repeat it.
        on_stage_start: runs after ``prepare`` and before the first step, also of a resumed stage: opens resources that are not
            part of the module's state.
        fit_statistics: runs before each validation and after the last step, without gradients: computes what scores depend on
            besides the trained parameters. Every worker runs it, and the buffers of the first worker are used. It must draw no
            random numbers, must leave the training mode and all training state as they are, and stores its result in buffers.
        predicts: whether the method can predict during this stage; otherwise it is not validated.
        size_params: the method's parameters that determine ``mix``, for the error if it does not fit the data or the workers.
        capturable: whether a step is the same work whatever its images, labels and random numbers are: it reads no value of a
            tensor, makes no tensor whose shape depends on values, and draws from ``batch.generator`` alone. Then it is captured
            on a GPU, and its Python code runs a few times only.
        depends_on: the parameters that determine the result of this stage, for methods whose later stages have others: trials
            of a search with equal values train it once.
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
    capturable: bool = False
    depends_on: Mapping[str, Any] | None = None


class TrainingImages(Protocol):
    """The training split as the functions of a `Stage` see it: passes over its images, in the order of the split's sample ids."""

    @property
    def n_normal(self) -> int:
        """Number of normal training images."""
        ...

    @property
    def n_anomalous(self) -> int:
        """Number of labelled anomalies in the training split."""
        ...

    def normal(self, size: int) -> Iterator[Batch]:
        """Batches of up to ``size`` normal images."""
        ...

    def anomalous(self, size: int) -> Iterator[Batch]:
        """Batches of up to ``size`` labelled anomalies."""
        ...

    def compute_once(
        self, name: str, key: Mapping[str, Any], read: Callable[[Path], T | None], build: Callable[[Path], None]
    ) -> T:
        """A result that depends only on these images and ``key``, cached on this machine.

        Args:
            name: of the cache.
            key: identifies the result, besides the images.
            read: reads the result from the cache folder; None if the folder is incomplete.
            build: fills the cache folder, once.
        """
        ...
