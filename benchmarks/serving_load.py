"""Requests at a rate, in a process of its own: what `serving.py` measures with. Needs nothing but Python."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

SECONDS_TO_ANSWER = 60.0
RETRY_SECONDS = 0.5  # after a connection that failed
BOUNDARY = "0f8e2c"


@dataclass
class Load:
    """What became of requests.

    Attributes:
        statuses: answers by status; 0 is a connection that failed.
        latencies: seconds from the time at which a request was due to its answer with predictions.
        without_advice: refusals that did not say when to come again.
        versions: predictions by the model's version.
        longest_wait: seconds from the first attempt of a request to its prediction, where clients try again.
        seconds: from the first request to the last answer.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    without_advice: int = 0
    versions: Counter[str] = field(default_factory=Counter)
    longest_wait: float = 0.0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Answers with predictions in a second."""
        return self.statuses[200] / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Milliseconds within which this share of the predictions came."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def form(image: bytes) -> bytes:
    """The body of a request with one image."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="image"\r\n\r\n'
    return head.encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()


class Client:
    """A connection that is kept."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection = self._connect()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=SECONDS_TO_ANSWER)

    def post(self, body: bytes) -> tuple[int, str | None, bytes]:
        """Status, Retry-After and content of an answer; 0 if there is none."""
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        try:
            self._connection.request("POST", "/v1/predict", body, headers)
            answer = self._connection.getresponse()
            return answer.status, answer.headers["Retry-After"], answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            self._connection = self._connect()
            return 0, None, b""


def send_at_rate(port: int, images: Sequence[bytes], rate: float, seconds: float, connections: int) -> Load:
    """Send requests at equal distances in time, whether earlier ones have been answered or not.

    Args:
        port: of the server.
        images: contents of files, sent one after the other.
        rate: requests in a second.
        seconds: for which they are sent.
        connections: so many requests may be open; a request that finds none free is late, which its latency includes.
    """
    count, started_at = round(rate * seconds), time.perf_counter() + 0.2
    bodies = [form(image) for image in images]

    def work(index: int, client: Client, load: Load, lock: threading.Lock) -> None:
        due = started_at + index / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        _record(load, lock, client.post(bodies[index % len(bodies)]), due)

    return _in_threads(port, count, connections, work)


def send_one_after_the_other(port: int, images: Sequence[bytes], seconds: float, connections: int) -> Load:
    """Each connection sends its next request when its last is answered: as much as the server can do."""
    stop_at = time.perf_counter() + seconds
    bodies = [form(image) for image in images]

    def work(index: int, client: Client, load: Load, lock: threading.Lock) -> None:
        sent_at = time.perf_counter()
        if sent_at < stop_at:
            _record(load, lock, client.post(bodies[index % len(bodies)]), sent_at)

    return _in_threads(port, 10**9, connections, work, stop_at)


def send_until_answered(port: int, images: Sequence[bytes], count: int, connections: int) -> Load:
    """Clients that try again, until each of their images is predicted."""
    bodies = [form(image) for image in images]

    def work(index: int, client: Client, load: Load, lock: threading.Lock) -> None:
        started_at = time.perf_counter()
        while True:
            answer = client.post(bodies[index % len(bodies)])
            _record(load, lock, answer, started_at)
            if answer[0] == 200:
                with lock:
                    load.longest_wait = max(load.longest_wait, time.perf_counter() - started_at)
                return
            time.sleep(float(answer[1] or RETRY_SECONDS))

    return _in_threads(port, count, connections, work)


def _record(load: Load, lock: threading.Lock, answer: tuple[int, str | None, bytes], due: float) -> None:
    status, advice, content = answer
    latency = time.perf_counter() - due
    with lock:
        load.statuses[status] += 1
        if status == 200:
            load.latencies.append(latency)
            load.versions[content.rpartition(b'"version":')[2].partition(b",")[0].decode()] += 1
        elif advice is None:
            load.without_advice += 1


def _in_threads(
    port: int,
    count: int,
    connections: int,
    work: Callable[[int, Client, Load, threading.Lock], None],
    stop_at: float = float("inf"),
) -> Load:
    load, lock, numbers, started_at = Load(), threading.Lock(), iter(range(count)), time.perf_counter()

    def run() -> None:
        client = Client(port)
        while time.perf_counter() < stop_at:
            with lock:
                index = next(numbers, None)
            if index is None:
                return
            work(index, client, load, lock)

    threads = [threading.Thread(target=run) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.seconds = time.perf_counter() - started_at
    return load
