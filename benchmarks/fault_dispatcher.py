"""A dispatcher without its HTTP interface, for benchmarks/faults.py: with any lease and clock, and killed where it is told to.

    python benchmarks/fault_dispatcher.py --name one [--lease 5] [--clock-offset 3600] [--die before-submit]

It serves the stack that the environment names.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from adjobs.config.environment import load_settings
from adjobs.queue.dispatcher import LEASE_SECONDS, Dispatcher, Limits
from adjobs.queue.folder import JobFolder
from adjobs.queue.ray_jobs import RayJobs
from adjobs.queue.store import JobStore

MOMENTS = ("before-submit", "after-submit")


class MortalRayJobs(RayJobs):
    """Kills its process before or after a submission; never if ``moment`` is None."""

    moment: str | None = None

    def submit(self, submission_id: str, entrypoint: str, environment: Mapping[str, str], working_dir: str | None = None) -> None:
        """Start a driver, unless it is the moment to die."""
        for moment in MOMENTS:
            if self.moment == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            if moment == MOMENTS[0]:
                super().submit(submission_id, entrypoint, environment, working_dir)


def main() -> None:
    """Dispatch until the process is killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="one", help="of the dispatcher")
    parser.add_argument("--database", help="of the queue; that of the settings if it is left out")
    parser.add_argument("--slots", type=int, default=2, help="jobs at once")
    parser.add_argument("--lease", type=float, default=LEASE_SECONDS, help="seconds")
    parser.add_argument("--clock-offset", type=float, default=0.0, help="seconds by which its clock is wrong")
    parser.add_argument("--die", choices=MOMENTS, help="when it is killed")
    arguments = parser.parse_args()
    settings = load_settings()
    assert settings.queue.ray_dashboard is not None
    store = JobStore(arguments.database or settings.queue.database, lambda: time.time() + arguments.clock_offset)
    cluster = MortalRayJobs(settings.queue.ray_dashboard, Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text().strip())
    cluster.moment = arguments.die

    def open_folder(job: str) -> JobFolder:
        return JobFolder.open(settings.artifacts, job)

    limits = Limits(arguments.slots)
    Dispatcher(arguments.name, store, cluster, open_folder, limits, {}, arguments.lease).run(1.0, lambda: False)


if __name__ == "__main__":
    main()
