"""What a search will do, decided and checked before anything is started."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from adjobs import methods
from adjobs.config.job import JobConfig, TrainSection
from adjobs.config.settings import Settings
from adjobs.data.places import Places
from adjobs.errors import JobError
from adjobs.jobs.data import PreparedData, with_version
from adjobs.jobs.places import resolve_places
from adjobs.jobs.prepare import PreparedJob, prepare
from adjobs.tuning.objective import Objective, parse_objectives
from adjobs.tuning.space import Space, TrialParams
from adjobs.tuning.study import Pruner, Sampler, SearchConfig

DEFAULT_TRIALS = 30
DEFAULT_REPEATS = 2


@dataclass(frozen=True)
class SearchOptions:
    """How to search.

    Attributes:
        metrics: objectives such as ``image_auroc:max``, of which the first chooses; empty: the method's own.
        sampler: what suggests values.
        pruner: what ends trials early; None: ASHA if the only objective is known after every validation.
        grace_period: validations that every trial gets before it may be pruned.
        seed: of the sampler.
        trials: in all; None: 30, or the size of the grid.
        max_concurrent: trials at once; None: as many as the cluster holds.
        repeats: further training seeds with which the best trials and the job as it is are trained.
    """

    metrics: tuple[str, ...] = ()
    sampler: Sampler = "tpe"
    pruner: Pruner | None = None
    grace_period: int = 3
    seed: int = 0
    trials: int | None = None
    max_concurrent: int | None = None
    repeats: int = DEFAULT_REPEATS

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "metrics": list(self.metrics)}


@dataclass(frozen=True)
class SearchPlan:
    """A search with nothing left open.

    Attributes:
        job: the job that is varied.
        space: what varies.
        objectives: what is optimised; the first one chooses.
        config: how the search chooses.
        trials: in all.
        max_concurrent: trials at once; None: as many as the cluster holds.
        repeats: further training seeds of the finalists.
        data: the data of every variant of the ``data`` section; the job's own first.
        settings: where MLflow, storage and Ray are.
        places: what decided on a parameter of the job that depends on it; None where none was open.
    """

    job: JobConfig
    space: Space
    objectives: tuple[Objective, ...]
    config: SearchConfig
    trials: int
    max_concurrent: int | None
    repeats: int
    data: Mapping[str, PreparedData]
    settings: Settings
    places: Places | None = None
    _prepared: dict[str, PreparedJob] = field(default_factory=dict, repr=False)

    def prepare(self, params: TrialParams) -> PreparedJob:
        """Job and data of a trial, prepared once: a model to start with is downloaded for that."""
        key = json.dumps(params)
        if key not in self._prepared:
            job = self.space.apply(params, self.job)
            self._prepared[key] = prepare(job, self.settings, self.data[data_key(job)])
        return self._prepared[key]

    @property
    def fingerprint(self) -> str:
        """Of the job's own data."""
        return next(iter(self.data.values())).fingerprint

    @property
    def splits_digest(self) -> str:
        """Digest of the splits of all variants."""
        splits = [data.split.to_dict() for data in self.data.values()]
        return hashlib.sha256(json.dumps(splits, sort_keys=True).encode()).hexdigest()

    def options(self) -> SearchOptions:
        """The options of this search, with all that was left to it."""
        metrics = tuple(map(str, self.objectives))
        return SearchOptions(
            metrics,
            **asdict(self.config),
            trials=self.trials,
            max_concurrent=self.max_concurrent,
            repeats=self.repeats,
        )


def make_plan(job: JobConfig, space: Space, options: SearchOptions, settings: Settings) -> SearchPlan:
    """Decide what the options leave open, and check and split the data.

    Raises:
        AdjobsError: options, space, job and data do not fit together.
    """
    if job.track is None:
        raise JobError("track: got none, a search is recorded in MLflow; remove the key, or set track.experiment")
    job = job.model_copy(update={"data": with_version(job.data), "train": with_processors(job.train)})
    objectives = parse_objectives(options.metrics, job)
    config = SearchConfig(options.sampler, _resolve_pruner(options.pruner, objectives), options.grace_period, options.seed)
    data = prepare_variants(space, job, objectives, settings)
    places = None
    if not _settles_by_trial(space, job):
        job, places = resolve_places(job, next(iter(data.values())), settings.cache)
    trials = _resolve_trials(options, space, job)
    return SearchPlan(job, space, objectives, config, trials, options.max_concurrent, options.repeats, data, settings, places)


def _settles_by_trial(space: Space, job: JobConfig) -> bool:
    """Whether what the job leaves to the data is a question in some trials only, so that each settles it for itself."""
    place_param = methods.spec(job.method).place_param
    if place_param is None or place_param.only_with is None:
        return False
    varied = {parameter.key for parameter in space.parameters}
    return f"params.{place_param.only_with[0]}" in varied and f"params.{place_param.param}" not in varied


def with_processors(train: TrainSection) -> TrainSection:
    """The processors of a trial and of the final training, which are the same: another number rounds sums in another order.

    Concurrent trials with one processor each use several processors better than one trial does.
    """
    if train.min_workers == 1 and train.cpus_per_worker == "auto":
        return train.model_copy(update={"cpus_per_worker": 1})
    return train


def resumed_options(stored: Mapping[str, Any], trials: int | None, max_concurrent: int | None) -> SearchOptions:
    """The options that a search was started with, apart from those that a resume may change."""
    options = SearchOptions(**{**stored, "metrics": tuple(stored["metrics"])})
    return replace(options, trials=trials or options.trials, max_concurrent=max_concurrent or options.max_concurrent)


def _resolve_pruner(pruner: Pruner | None, objectives: Sequence[Objective]) -> Pruner:
    late = [objective.metric for objective in objectives if not objective.is_intermediate]
    can_prune = not late and len(objectives) == 1
    if pruner in ("asha", "median") and not can_prune:
        reason = f"{', '.join(late)} is known at the end only" if late else "several objectives do not say which trial is worse"
        raise JobError(f"--pruner {pruner}: {reason}; give --pruner none")
    return pruner or ("asha" if can_prune else "none")


def _resolve_trials(options: SearchOptions, space: Space, job: JobConfig) -> int:
    if options.sampler != "grid":
        return options.trials or DEFAULT_TRIALS
    size = len(space.grid(job))
    if options.trials is not None and options.trials < size:
        raise JobError(
            f"--trials: got {options.trials}, the grid has {size} points; give at least that many, or fewer values in the space"
        )
    return size


def prepare_variants(
    space: Space, job: JobConfig, objectives: Sequence[Objective], settings: Settings
) -> dict[str, PreparedData]:
    """Check and split the data for all variants of the ``data`` section in a space, by their key; the job's own first.

    Raises:
        JobError: one variant chooses by images that another one tests on; a validation split cannot be evaluated on; something
            varies that must be as in the run that the job starts with.
    """
    _check_warm_start(space, job)
    variants: dict[str, PreparedData] = {}
    names: dict[str, str] = {}
    for params in [{}, *space.data_variants(job)]:
        variant = space.apply(params, job)
        key = data_key(variant)
        if key not in variants:
            variants[key] = prepare(variant, settings).data
            names[key] = ", ".join(f"{name} {value}" for name, value in params.items()) or "the job as it is"
    splits = {key: data.split for key, data in variants.items()}
    leak = find_leak([VariantImages(names[key], frozenset((*s.train, *s.val)), frozenset(s.test)) for key, s in splits.items()])
    if leak is not None:
        raise JobError(f"{space.source}: {leak}, so that test images would choose; leave one of them out")
    if any(not objective.is_cost for objective in objectives):
        for key, data in variants.items():
            labels = {sample.id: sample.label for sample in data.dataset.samples}
            if {labels[name] for name in data.split.val} != {"normal", "anomalous"}:
                raise JobError(
                    f"{names[key]}: the validation split lacks normal or anomalous images, so nothing can be chosen on it; "
                    "use another data.protocol, or label more images"
                )
    return variants


def _check_warm_start(space: Space, job: JobConfig) -> None:
    """Refuse to vary what must be as in the run that the job starts with."""
    warm_start = methods.spec(job.method).warm_start
    if warm_start is None or job.params[warm_start.param] is None:
        return
    fixed = {"data.image_size", *(f"params.{name}" for name in warm_start.must_match)}
    varied = [parameter.key for parameter in space.parameters if parameter.key in fixed]
    if varied:
        start = f"params.{warm_start.param} '{job.params[warm_start.param]}'"
        raise JobError(f"{space.source}: {', '.join(varied)} must be as in {start}; remove them from the space")


def data_key(job: JobConfig) -> str:
    """What decides on the data and splits of a job: its ``data`` section without sizes and details of the labels."""
    section = job.data.model_dump(mode="json", exclude={"image_size", "label_detail", "block_size"})
    return json.dumps(section, sort_keys=True)


class VariantImages(NamedTuple):
    """The images of a variant of the data: those that train or validate, and those of the test split."""

    name: str
    choosing: frozenset[str]
    test: frozenset[str]


def find_leak(variants: Sequence[VariantImages]) -> str | None:
    """Say where one variant trains or validates on test images of another one; None where none does."""
    for variant, other in itertools.permutations(variants, 2):
        shared = len(variant.choosing & other.test)
        if shared:
            return f"with {variant.name}, {shared} images train or validate that are test images with {other.name}"
    return None
