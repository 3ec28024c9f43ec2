"""A data set with versions in a running S3."""

from __future__ import annotations

import pytest

from adjobs.config.resolve import resolve
from adjobs.data.dataset import fingerprint
from adjobs.data.open import open_dataset
from adjobs.data.reading import ReadOptions
from adjobs.data.versions.record import SplitRule
from adjobs.errors import DataError
from adjobs.jobs.prepare import prepare
from adjobs.storage import open_store
from adjobs.versioning.adding import add_to_dataset
from adjobs.versioning.creating import Origin, create_dataset
from adjobs.versioning.dataset import VersionedDataset
from tests.helpers.drawing import draw_folder
from tests.helpers.jobs import local_settings
from tests.helpers.s3 import s3_environment, server  # noqa: F401 (fixtures)
from tests.helpers.versioned import draw

pytestmark = pytest.mark.slow


def test_dataset_in_s3_is_created_grows_from_an_inbox_in_s3_and_is_read(server, tmp_path):  # noqa: F811
    uri, inbox = (f"s3://adjobs/{tmp_path.name}/{name}" for name in ("set", "inbox"))
    settings = local_settings(tmp_path)
    source = draw_folder(tmp_path / "source", 20, 10, 32)
    first = create_dataset(uri, settings=settings, author="ann", rule=SplitRule(), origin=Origin(str(source)))
    assert first.version is not None
    empty = add_to_dataset(uri, inbox, settings=settings, author="ann")
    assert (empty.version, empty.latest) == (None, first.version)
    for path in sorted(draw(tmp_path / "inbox", "scratch/x.png scratch/y.png good/z.png", seed=1).rglob("*.png")):
        open_store(inbox).put(path, path.relative_to(tmp_path / "inbox").as_posix())
    result = add_to_dataset(uri, inbox, settings=settings, author="ann")
    assert result.version is not None
    assert (result.version.number, result.added) == (2, 3)
    assert add_to_dataset(uri, inbox, settings=settings, author="ann").duplicates == 3
    assert [record.number for record in VersionedDataset.open(uri).records()] == [1, 2]
    for version, images in ((1, 30), (2, 33), (None, 33)):
        dataset = open_dataset(uri, cache=tmp_path / "cache", options=ReadOptions(version=version))
        assert len(dataset.samples) == images
        assert dataset.version is not None
        assert fingerprint(dataset) == dataset.version.fingerprint
    job = resolve({"method": "cdo", "data": {"uri": uri, "protocol": "official"}})
    assert prepare(job, settings).job.data.version == 2
    for overlapping in (uri, f"{uri}/files", f"s3://adjobs/{tmp_path.name}"):
        with pytest.raises(DataError, match="neither may contain the other"):
            add_to_dataset(uri, overlapping, settings=settings, author="ann")
    with pytest.raises(DataError, match="is not a data set with versions"):
        VersionedDataset.open(inbox)
