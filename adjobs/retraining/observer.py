"""Who is called while a pass runs: nobody, or a person at a terminal."""

from __future__ import annotations

import logging

from adjobs.training.progress import ProgressUpdate
from adjobs.tuning.search import SearchObserver

log = logging.getLogger(__name__)


class RetrainObserver(SearchObserver):
    """Called while a pass runs; of the steps it writes a line each, and of the training nothing."""

    def on_step(self, text: str) -> None:
        """A step starts, such as ``taking in s3://line-3/inbox``."""
        log.info("%s", text)

    def on_progress(self, update: ProgressUpdate) -> None:
        """The training progressed."""
