from __future__ import annotations

import threading

from adjobs.queue.heartbeat import Heartbeat
from adjobs.queue.service import _should_stop


def test_age_is_the_time_since_the_last_step_of_the_dispatcher():
    now = [5.0]
    heartbeat = Heartbeat(lambda: now[0])
    now[0] = 8.0
    assert heartbeat.age() == 3.0
    assert not _should_stop(threading.current_thread(), heartbeat)
    assert heartbeat.age() == 0.0
