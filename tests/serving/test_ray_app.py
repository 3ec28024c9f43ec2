from __future__ import annotations

import socket
from contextlib import closing

import pytest
import requests

from adjobs.config.settings import Settings
from adjobs.errors import ClusterError
from adjobs.inference.detector_folder import save
from adjobs.serving import ray_app
from adjobs.serving.ray_app import Deployment, ReplicaConfig, deploy, remove
from adjobs.training.backends.ray import connected
from adjobs.web.door import Door
from adjobs.web.key_file import digest
from tests.helpers.detectors import make_manifest
from tests.helpers.serving import draw_png
from tests.helpers.tiny import small_params, tiny_method

KEY = "k" * 40


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Using extra keyword arguments:DeprecationWarning")  # Ray's own
def test_replica_on_a_local_ray_answers_as_the_server_does(own_home, tmp_path):
    """One Ray for all that needs one: it takes longest to start."""
    folder = tmp_path / "cells"
    save(folder, tiny_method("cdo"), make_manifest("cdo", small_params("cdo"), pixel=0.5))
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        door = Door("127.0.0.1", free.getsockname()[1])
    config = ReplicaConfig(str(folder), engine="torch", key_digests=(digest(KEY),))
    with connected(Settings.from_env({"ADJOBS_HOME": str(own_home)})):
        url = deploy(config, Deployment(replicas=1, cpus=0.5), door)
        headers = {"Authorization": f"Bearer {KEY}"}
        assert requests.get(f"{url}/readyz", timeout=20).json() == {"status": "ready", "model": "cells", "following": None}
        answer = requests.post(f"{url}/v1/predict", files={"image": draw_png()}, headers=headers, timeout=30)
        assert answer.status_code == 200
        assert answer.json()["model"]["name"] == "cells"
        assert requests.post(f"{url}/v1/predict", files={"image": draw_png()}, timeout=20).status_code == 401
        refused = requests.post(f"{url}/v1/predict", files={"image": b"text"}, headers=headers, timeout=20)
        assert refused.json() == {"error": refused.json()["error"], "index": 0}
        assert requests.get(f"{url}/v2/models/cells", headers=headers, timeout=20).json()["versions"] == []
        with pytest.raises(ClusterError, match=r"Ray Serve answers at 127.0.0.1:\d+ of this cluster already"):
            deploy(config, Deployment(), Door("127.0.0.1", 1))
        remove()
        assert ray_app.APPLICATION not in ray_app._applications()
