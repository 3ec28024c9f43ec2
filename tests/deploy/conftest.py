"""What the tests of docker/ and cluster/ compare with."""

from __future__ import annotations

from typing import Any, cast

import pytest

from adjobs.queue.server import make_app


@pytest.fixture(scope="session")
def queue_paths() -> set[str]:
    """The paths of the queue's HTTP interface; no path needs its store to be listed."""
    nothing = cast(Any, None)
    return {route.path for route in make_app(nothing, nothing, nothing, nothing).routes if hasattr(route, "path")}
