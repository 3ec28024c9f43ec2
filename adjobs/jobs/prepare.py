"""Everything that can be found out about a job before its run is opened."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from adjobs import methods
from adjobs.config.job import JobConfig
from adjobs.config.settings import Settings
from adjobs.data.image_reading import ImageReading
from adjobs.data.open import INSTALLED
from adjobs.data.places import Places
from adjobs.data.splits.assignment import SplitAssignment, normal_train_digest
from adjobs.errors import JobError, join_problems
from adjobs.inference.manifest import Manifest, read_manifest
from adjobs.jobs.data import PreparedData, prepare_data, with_version
from adjobs.jobs.places import LEFT_OPEN, resolve_places
from adjobs.paths import expand_home
from adjobs.tracking.layout import RunRef
from adjobs.tracking.logged_model import download, pin_model_uri
from adjobs.tracking.runs import open_reader, source_run
from adjobs.waits import waiting_for


class PreparedJob(NamedTuple):
    """A job as it will be trained, and its data; both have passed every check that needs no open run.

    Attributes:
        job: the job, with nothing left open.
        data: its data.
        places: what decided on the parameter that depends on it; None if the job names its value, or none depends.
    """

    job: JobConfig
    data: PreparedData
    places: Places | None = None


def prepare(job: JobConfig, settings: Settings, data: PreparedData | None = None) -> PreparedJob:
    """Check everything that a job names.

    Args:
        job: the resolved job.
        settings: where MLflow and the cluster are.
        data: already prepared for the same data section.

    Raises:
        AdjobsError: the job cannot be done.
    """
    job = with_absolute_paths(job, keep_relative=settings.working_dir is not None)
    job = job.model_copy(update={"data": with_version(job.data)})
    data = prepare_data(job, settings) if data is None else data
    job = resolve_warm_start(with_split_of(job, data.split), data, settings)
    job = resolve_start(job, data, settings)
    job, places = resolve_places(job, data, settings.cache)
    return PreparedJob(job, data, places)


def with_split_of(job: JobConfig, split: SplitAssignment) -> JobConfig:
    """The job with the protocol and seed of its split, which a split file may have brought."""
    return job.model_copy(update={"data": job.data.model_copy(update={"protocol": split.protocol, "seed": split.seed})})


def with_absolute_paths(job: JobConfig, *, keep_relative: bool = False) -> JobConfig:
    """The job with absolute paths: workers and a later resume run in other folders.

    Args:
        job: the job.
        keep_relative: keep relative paths of files, because workers and a later resume find the same files under them, whereas
            the folder itself has another path on another machine. Those of data become absolute all the same.
    """
    absolute = {name: path if keep_relative else _absolute(path) for name, path in path_values(job).items()}
    data = job.data
    if data.split is not None and not keep_relative:
        data = data.model_copy(update={"split": _absolute(data.split)})
    if "://" not in data.uri and data.uri != INSTALLED:
        data = data.model_copy(update={"uri": str(expand_home(data.uri).absolute())})
    train = job.train
    if train.start_from is not None and not keep_relative:
        train = train.model_copy(update={"start_from": _absolute(train.start_from)})
    return job.model_copy(update={"params": job.params | absolute, "data": data, "train": train})


def path_values(job: JobConfig) -> dict[str, str]:
    """The parameters of a resolved job that may name a file or folder, or a URI or an id, without keywords such as ``none``."""
    warm_start = methods.spec(job.method).warm_start
    keywords = {name: param.keywords for name, param in methods.path_params(job.method).items()}
    if warm_start is not None:
        keywords[warm_start.param] = ()
    values = {name: job.params.get(name) for name in keywords}
    return {name: value for name, value in values.items() if isinstance(value, str) and value not in keywords[name]}


def _absolute(text: str) -> str:
    """The absolute path of an existing file or folder; URIs and ids stay as they are."""
    path = expand_home(text)
    return text if "://" in text or not path.exists() else str(path.absolute())


def resolve_warm_start(job: JobConfig, data: PreparedData, settings: Settings) -> JobConfig:
    """The job with the exact model that it starts with.

    Raises:
        JobError: a model of another method, of other data or another training split, or of another shape. Weights that were
            trained on images of this job's validation or test split must not be started with.
        TrackingError: no such run or model.
    """
    warm_start = methods.spec(job.method).warm_start
    requested = None if warm_start is None else job.params[warm_start.param]
    if warm_start is None or requested is None:
        return job
    model = pin_model_uri(settings.tracking_uri, requested)
    with TemporaryDirectory(prefix="adjobs-") as folder, waiting_for(f"fetching {model} to start with"):
        manifest = read_manifest(download(settings.tracking_uri, model, Path(folder)))
    mismatches = _mismatches(job, data, manifest)
    if mismatches:
        raise JobError(
            f"params.{warm_start.param} '{requested}': {'; '.join(mismatches)}; use a run that agrees, or remove the parameter"
        )
    return job.model_copy(update={"params": {**job.params, warm_start.param: model}})


def resolve_start(job: JobConfig, data: PreparedData, settings: Settings) -> JobConfig:
    """The job with the exact model whose weights the training starts with.

    Raises:
        JobError: a model of another method, of other parameters or another data set, or one that was trained on images of this
            job's validation or test split.
        TrackingError: no such run or model.
    """
    requested = job.train.start_from
    if requested is None:
        return job
    uri = settings.tracking_uri
    model = pin_model_uri(uri, requested)
    with TemporaryDirectory(prefix="adjobs-") as folder, waiting_for(f"fetching {model} to start with"):
        manifest = read_manifest(download(uri, model, Path(folder)))
    job = _with_choice_of(manifest, job)
    pairs = [
        ("method", manifest.method, job.method),
        ("image_size", manifest.image_size, job.data.image_size),
        ("image reading", _describe(manifest.image_reading), _describe(data.reading)),
        *_differing_params(job, manifest),
    ]
    problems = [f"its {name} is {theirs}, this job's is {ours}" for name, theirs, ours in pairs if theirs != ours]
    problems += _shared_images(source_run(uri, settings.home, model), job, data)
    if problems:
        raise JobError(f"train.start_from '{requested}': {join_problems(problems)}; use a run that agrees, or remove the key")
    return job.model_copy(update={"train": job.train.model_copy(update={"start_from": model})})


def _with_choice_of(manifest: Manifest, job: JobConfig) -> JobConfig:
    """The job with the model's value of the parameter that is left to the data, whose weights would not fit another one."""
    place_param = methods.spec(job.method).place_param
    if place_param is None or manifest.method != job.method or job.params[place_param.param] != LEFT_OPEN:
        return job
    name = place_param.param
    return job.model_copy(update={"params": {**job.params, name: manifest.params.get(name, LEFT_OPEN)}})


def _differing_params(job: JobConfig, manifest: Manifest) -> list[tuple[str, object, object]]:
    """Parameters with another value in the model, but for those that name files: where they lie does not matter."""
    if manifest.method != job.method:
        return []
    files = set(methods.path_params(job.method))
    warm_start = methods.spec(job.method).warm_start
    files |= set() if warm_start is None else {warm_start.param}
    names = sorted((job.params.keys() | manifest.params.keys()) - files)
    return [(f"params.{name}", manifest.params.get(name), job.params.get(name)) for name in names]


def _shared_images(run: RunRef | None, job: JobConfig, data: PreparedData) -> list[str]:
    """Why the images that a model's run was trained on may be among those that this job is validated or tested on."""
    if run is None:
        return ["no run says which images it was trained on"]
    stored = open_reader(run).stored_run()
    if stored.job.data.uri != job.data.uri:
        return [f"its data are '{stored.job.data.uri}', this job's are '{job.data.uri}'"]
    shared = sorted(set(stored.split.train) & {*data.split.val, *data.split.test})
    if not shared:
        return []
    return [f"{len(shared)} of its training images are in this job's validation or test split, such as {shared[0]}"]


def _describe(reading: ImageReading) -> str:
    return "8 bits" if reading.white is None else f"{reading.black:g} to {reading.white:g}"


def _mismatches(job: JobConfig, data: PreparedData, manifest: Manifest) -> list[str]:
    """Where a model to start with does not fit a job."""
    warm_start = methods.spec(job.method).warm_start
    assert warm_start is not None
    own = {**job.params, "image_size": job.data.image_size}
    stored = {**manifest.params, "image_size": manifest.image_size}
    digest = normal_train_digest(data.dataset, data.split.train)
    pairs = [
        ("method", manifest.method, job.method),
        ("data fingerprint", manifest.data_fingerprint[:16], data.fingerprint[:16]),
        ("image reading", _describe(manifest.image_reading), _describe(data.reading)),
        ("normal training images", (manifest.normal_train_digest or "unknown")[:16], digest[:16]),
        *((name, stored.get(name), own[name]) for name in ("image_size", *warm_start.must_match)),
    ]
    mismatches = [f"its {name} is {theirs}, this job's is {ours}" for name, theirs, ours in pairs if theirs != ours]
    return mismatches + [
        f"its {name} is {stored.get(name)}, must be {value}"
        for name, value in warm_start.required_values
        if stored.get(name) != value
    ]
