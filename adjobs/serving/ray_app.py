"""A cluster: the same application in replicas of Ray Serve. The only module that knows Ray Serve."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from adjobs.config.settings import Settings
from adjobs.errors import ClusterError, one_line
from adjobs.inference.engine_contract import EngineName
from adjobs.serving.limits import Limits
from adjobs.web.door import Door

APPLICATION = "adjobs-detector"
POLL_SECONDS = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReplicaConfig:
    """What each replica serves.

    Attributes:
        model: what :func:`adjobs.api.load_detector` takes.
        name: of the model in answers; None: its own.
        device: of :func:`adjobs.api.load_detector`.
        engine: of the same.
        follow_seconds: between two questions to the registry.
        limits: of each replica.
        key_digests: of the keys that are let in; keys themselves do not reach the cluster.
    """

    model: str
    name: str | None = None
    device: str = "auto"
    engine: EngineName = "auto"
    follow_seconds: float = 10.0
    limits: Limits = field(default_factory=Limits)
    key_digests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Deployment:
    """How many replicas there are, and what each takes of the cluster."""

    replicas: int = 1
    cpus: float = 1.0
    gpus: float = 0.0


class Replica:
    """A detector with its application; made in a process of the cluster, which is ready when its model is warm."""

    def __init__(self, config: ReplicaConfig) -> None:
        from adjobs.serving.loading import load_to_serve
        from adjobs.serving.models import ModelSource
        from adjobs.serving.service import PredictionService

        load = partial(load_to_serve, device=config.device, engine=config.engine)
        source = ModelSource(config.model, load, config.name, config.limits.max_batch)
        self._config, self._service = config, PredictionService(source, config.limits, config.follow_seconds)
        self._service.load()

    def __serve_build_asgi_app__(self) -> Any:
        """The application, for Ray Serve."""
        from adjobs.serving.app import make_app

        return make_app(self._service, self._config.key_digests)

    def check_health(self) -> None:
        """Raise an error if it cannot predict, so that Ray Serve replaces it."""
        if not self._service.is_alive:
            raise RuntimeError("predictions have ended")


def serve(settings: Settings, config: ReplicaConfig, deployment: Deployment, door: Door) -> None:
    """Deploy on the cluster of the settings, or on a local Ray; answer until the process is asked to stop, then remove it.

    If this process is killed, a cluster's replicas go on, and the next call takes them over.

    Raises:
        ClusterError: Ray does not answer, its Serve has another address, or the replicas do not start.
    """
    from adjobs.training.backends.ray import connected

    with connected(settings):
        url = deploy(config, deployment, door)
        log.info("%d replicas of %s answer at %s", deployment.replicas, config.model, url)
        try:
            while True:
                time.sleep(POLL_SECONDS)
        finally:
            remove()


def deploy(config: ReplicaConfig, deployment: Deployment, door: Door) -> str:
    """Start the replicas, on the Ray that is connected, and wait until all of them are ready; returns the address.

    Raises:
        ClusterError: they do not start, or Ray Serve answers at another address already.
    """
    from ray import serve as ray_serve

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    options = {"host": door.host, "port": door.port, "ssl_certfile": door.tls_cert, "ssl_keyfile": door.tls_key}
    in_work = 2 * config.limits.max_queue  # a replica refuses by itself what is beyond its queue, and says when to try again
    replica = ray_serve.deployment(
        num_replicas=deployment.replicas,
        max_ongoing_requests=in_work,
        max_queued_requests=in_work * deployment.replicas,
        ray_actor_options={"num_cpus": deployment.cpus, "num_gpus": deployment.gpus},
        graceful_shutdown_timeout_s=config.limits.timeout,
    )(ray_serve.ingress()(Replica))
    try:
        ray_serve.start(proxy_location="HeadOnly", http_options={key: value for key, value in options.items() if value})
        _check_address(door)
        ray_serve.run(replica.bind(config), name=APPLICATION, route_prefix="/")
    except ClusterError:
        raise
    except Exception as error:  # of Ray Serve's many classes
        cause = f"{_status_message() or one_line(error)}"[:300]
        raise ClusterError(f"Ray Serve did not start {config.model} ({cause}); see 'serve status' and its logs") from error
    return door.url


def remove() -> None:
    """Remove the replicas; what they have begun is answered."""
    from ray import serve as ray_serve

    ray_serve.delete(APPLICATION)


def _check_address(door: Door) -> None:
    """Ray Serve keeps the address with which it was started first, and only logs that."""
    from ray.serve.context import _get_global_client

    http = _get_global_client().http_config
    if (http.host, http.port, http.ssl_certfile) != (door.host, door.port, door.tls_cert):
        problem = f"Ray Serve answers at {http.host}:{http.port} of this cluster already"
        raise ClusterError(f"{problem}; give the same address and certificate, or end it with 'serve shutdown'")


def _status_message() -> str:
    """Why the replicas do not start, as Ray Serve says it; "" if it does not."""
    try:
        application = _applications()[APPLICATION]
    except Exception:  # there is none, or Ray is gone; the error that is being reported must not be hidden by another
        return ""
    messages = [application.message, *(each.message for each in application.deployments.values())]
    return next((one_line(ValueError(message)) for message in messages if message), "")


def _applications() -> dict[str, Any]:
    """What Ray Serve runs, by name."""
    from ray import serve as ray_serve

    return dict(ray_serve.status().applications)
