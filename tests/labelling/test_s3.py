"""Images in a bucket: suggested by their addresses, and fetched with their labels."""

from __future__ import annotations

import copy
from hashlib import sha256

import pytest

from adjobs.labelling.client import LabelStudioClient
from adjobs.labelling.images import find_sources
from adjobs.labelling.inbox import fetch_annotations
from adjobs.labelling.tasks import label_config
from adjobs.storage import open_store, put_tree
from tests.helpers.detectors import draw_image
from tests.helpers.label_studio import ANSWERS, KEY, label_studio
from tests.helpers.s3 import s3_environment, server  # noqa: F401 (fixtures)

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("server")
def test_images_in_a_bucket_go_to_label_studio_and_back_by_their_addresses(tmp_path):
    content = draw_image(tmp_path / "line" / "day 1", "ä b.png").read_bytes()
    put_tree(open_store("s3://adjobs/labelling"), tmp_path / "line", "recent")
    (source,) = find_sources(["s3://adjobs/labelling/recent"], tmp_path / "cache")
    assert source.uri == "s3://adjobs/labelling/recent/day 1/ä b.png"
    assert source.path.read_bytes() == content
    task = copy.deepcopy(ANSWERS["export"][0])
    task["data"].update(image=source.uri, name=source.path.name, sha256=sha256(content).hexdigest())
    with label_studio() as running:
        running.add_project("line-3", label_config(), [task])
        fetch_annotations(LabelStudioClient(running.url, KEY), "line-3", tmp_path / "inbox")
    assert (tmp_path / "inbox" / f"{task['id']}-ä b.png").read_bytes() == content
