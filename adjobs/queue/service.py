"""The process ``adjobs dispatch``: a dispatcher, and beside it the queue's HTTP interface."""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
import threading
import time
from functools import partial
from pathlib import Path

from adjobs import methods
from adjobs.config import resolve
from adjobs.config.environment import load_settings
from adjobs.config.settings import Settings
from adjobs.errors import QueueError
from adjobs.queue import tokens
from adjobs.queue.admission import Admission
from adjobs.queue.archives import Archives
from adjobs.queue.dispatcher import Dispatcher, Limits
from adjobs.queue.folder import JobFolder
from adjobs.queue.heartbeat import Heartbeat
from adjobs.queue.page import link_base
from adjobs.queue.ray_jobs import RayJobs
from adjobs.queue.run_closer import RunCloser
from adjobs.queue.scheduler import Scheduler
from adjobs.queue.schedules import Schedules
from adjobs.queue.server import ServerOptions, make_app
from adjobs.queue.store import JobStore
from adjobs.training.resources import GROWTH_VARIABLE, Growth
from adjobs.web.door import Door, RunningServer
from adjobs.web.key_file import MIN_LENGTH

POLL_SECONDS = 1.0
SWITCH_SECONDS = 0.0005
"""After which a thread that computes lets another go on: with Python's 5 ms, eight clients at once wait for each other."""

log = logging.getLogger(__name__)


def open_store(settings: Settings | None = None) -> JobStore:
    """The database of the queue on this machine.

    Raises:
        QueueError: it cannot be opened.
    """
    return JobStore((settings or load_settings()).queue.database)


def serve(settings: Settings, door: Door, limits: Limits, growth: Growth | None = None) -> None:
    """Dispatch jobs and answer clients, until the process is asked to stop.

    Any error ends it: what it did is in the database, and whatever started it starts it again.

    Raises:
        QueueError: no cluster is known, or the database fails.
        ServerError: the port is taken, or the certificate cannot be used.
    """
    if settings.queue.ray_dashboard is None:
        raise QueueError("no Ray cluster is known; set RAY_API_SERVER_ADDRESS to its dashboard, or start one with 'adjobs up'")
    door.check()
    store = open_store(settings)
    _register_local_token(store, settings.queue.token_path)
    archives = Archives.open(settings.artifacts)
    cluster = RayJobs(settings.queue.ray_dashboard, _ray_token(), archives=archives)
    heartbeat = Heartbeat()
    options = ServerOptions(link_base(settings.tracking_uri), growth, heartbeat, partial(JobFolder.delete, settings.artifacts))
    app = make_app(store, cluster, limits, archives, options=options)
    environment = {} if growth is None else {GROWTH_VARIABLE: growth.to_text()}
    name = f"{socket.gethostname()}:{door.port}"
    dispatcher = Dispatcher(name, store, cluster, lambda job: JobFolder.open(settings.artifacts, job), limits, environment)
    scheduler = Scheduler(Schedules(store), Admission(cluster, growth))
    _prepare_for_speed()
    server = RunningServer(app, door, limit_concurrency=200, timeout_keep_alive=10)
    closer = RunCloser(settings.tracking_uri, store, os.environ)
    try:
        server.start()
        threading.Thread(target=closer.run, args=[lambda: not server.is_alive()], daemon=True).start()
        log.info("the queue answers at %s, %d slots", door.url, limits.slots)
        dispatcher.run(POLL_SECONDS, partial(_should_stop, server, heartbeat), scheduler.step)
        raise QueueError("the queue's HTTP interface has ended; the log above says why")
    finally:
        server.stop(10)
        store.close()


def _should_stop(server: RunningServer, heartbeat: Heartbeat) -> bool:
    """Asked by the dispatcher after each step."""
    heartbeat.beat()
    return not server.is_alive()


def _prepare_for_speed() -> None:
    """Do before the first request what would keep it, and those that come with it, waiting."""
    for method in methods.names():
        resolve.resolve({"method": method, "data": {"uri": "."}})  # imports, and builds what validates a job
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()  # all that was imported stays: to search it for garbage takes a quarter of a second, in which nobody is answered


def _ray_token() -> str | None:
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return os.environ.get("RAY_AUTH_TOKEN") or (Path(path).read_text().strip() if path else None)


def _register_local_token(store: JobStore, path: Path | None) -> None:
    """Let the user of this machine in, whose token file the embedded stack made."""
    if path is None:
        return
    try:
        token, owner = path.read_text().strip(), _owner(path)
    except (OSError, UnicodeDecodeError) as error:
        raise QueueError(f"{path}: cannot be read ({error}); correct ADJOBS_QUEUE_TOKEN_PATH") from error
    if len(token) < MIN_LENGTH:
        problem = f"holds a token of {len(token)} characters, {MIN_LENGTH} are needed"
        raise QueueError(f"{path}: {problem}; make one with 'adjobs token create', or correct ADJOBS_QUEUE_TOKEN_PATH")
    with store.transaction() as connection:
        tokens.register(connection, token, owner, tokens.Role.ADMIN, time.time())


def _owner(path: Path) -> str:
    """The name of a file's owner; in a container it may have none."""
    try:
        return path.owner()
    except KeyError:
        return f"uid-{path.stat().st_uid}"
