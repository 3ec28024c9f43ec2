"""Bounds in number and time, through HTTP."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import requests

from adjobs.serving.limits import Limits
from tests.helpers.serving import HeldDetector, RunningDetector, draw_png, wait_until


def test_requests_before_the_model_is_ready_are_refused_with_a_time():
    with RunningDetector() as server:
        assert server.get("/healthz").json()["status"] == "ok"
        assert (server.get("/readyz").status_code, server.get("/v2/health/ready").status_code) == (503, 503)
        answer = server.post(draw_png())
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert server.get("/v2/models/tiles").status_code == 503
        server.load()
        assert server.get("/readyz").json() == {"status": "ready", "model": "tiles version 1", "following": None}
        assert server.post(draw_png()).status_code == 200
        server.service.drain()
        assert server.get("/readyz").json()["status"] == "stopping"
        assert server.post(draw_png()).status_code == 200  # what comes all the same is answered


def test_requests_beyond_the_queue_are_refused_and_it_recovers():
    detector = HeldDetector()
    with RunningDetector(lambda model: detector, limits=Limits(max_queue=3, max_images=2, max_batch=1)) as server:
        server.load()
        detector.may_predict.clear()
        with ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(server.post, draw_png()) for _ in range(3)]
            wait_until(lambda: server.metric("queue_images") == 3)
            refused = server.post(draw_png())
            assert (refused.status_code, int(refused.headers["Retry-After"])) == (503, 1)
            assert refused.json() == {"error": "too many images are waiting; try again later"}
            detector.may_predict.set()
            assert [future.result().status_code for future in waiting] == [200] * 3
        assert server.post(draw_png()).status_code == 200
        assert server.metric("refused_total", reason="overloaded") == 1
        assert server.metric("queue_images") == server.metric("queue_bytes") == 0


def test_images_that_do_not_fit_beside_others_are_refused():
    detector = HeldDetector()
    with RunningDetector(lambda model: detector, limits=Limits(max_queue=3, max_images=3, max_batch=1)) as server:
        server.load()
        detector.may_predict.clear()
        with ThreadPoolExecutor(2) as pool:
            waiting = pool.submit(server.post, draw_png())
            wait_until(lambda: server.metric("queue_images") == 1)
            assert server.post(*[draw_png()] * 3).status_code == 503
            detector.may_predict.set()
            assert waiting.result().status_code == 200


def test_request_whose_time_is_over_is_refused_and_not_computed():
    detector = HeldDetector()
    with RunningDetector(lambda model: detector, limits=Limits(timeout=0.6, max_batch=1)) as server:
        server.load()
        detector.may_predict.clear()
        with ThreadPoolExecutor(2) as pool:
            answers = [future.result() for future in [pool.submit(server.post, draw_png()) for _ in range(2)]]
        assert [(answer.status_code, "in time" in answer.text) for answer in answers] == [(503, True)] * 2
        assert all(answer.headers["Retry-After"] for answer in answers)
        computed = len(detector.batches)
        detector.may_predict.set()
        assert server.post(draw_png()).status_code == 200
        assert len(detector.batches) == computed + 1
        assert server.metric("images_skipped_total") == 1


def test_request_that_would_wait_too_long_is_refused_at_once():
    detector = HeldDetector()
    with RunningDetector(lambda model: detector, limits=Limits(timeout=5, max_batch=1)) as server:
        server.load()
        model = server.service.model.current
        server.service._predictor._recent = (model.pinned, 3.0)
        detector.may_predict.clear()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(server.post, draw_png())
            wait_until(lambda: server.metric("queue_images") == 1)
            refused = server.post(draw_png())
            detector.may_predict.set()
            assert waiting.result().status_code == 200
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "3")


def test_images_of_a_client_that_has_left_are_not_computed():
    detector = HeldDetector()
    with RunningDetector(lambda model: detector, limits=Limits(max_batch=1)) as server:
        server.load()
        detector.may_predict.clear()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(server.post, draw_png())
            wait_until(lambda: server.metric("queue_images") == 1)
            body = requests.Request("POST", f"{server.url}/v1/predict", files={"image": draw_png()}).prepare()
            address = server.url.removeprefix("http://").split(":")
            with socket.create_connection((address[0], int(address[1]))) as leaving:
                head = "".join(f"{name}: {value}\r\n" for name, value in body.headers.items())
                leaving.sendall(f"POST /v1/predict HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode() + body.body)
                wait_until(lambda: server.metric("queue_images") == 2)
            wait_until(lambda: server.metric("queue_images") == 1)
            computed = len(detector.batches)
            detector.may_predict.set()
            assert waiting.result().status_code == 200
        time.sleep(0.1)
        assert len(detector.batches) == computed
        assert server.metric("requests_total", route="/v1/predict", status="499") == 1


def test_body_that_does_not_come_in_time_is_refused():
    with RunningDetector(limits=Limits(timeout=0.4)) as server:
        server.load()
        address = server.url.removeprefix("http://").split(":")
        with socket.create_connection((address[0], int(address[1])), timeout=10) as slow:
            head = "POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
            slow.sendall(head.encode())
            assert slow.recv(1000).startswith(b"HTTP/1.1 408")


def test_detector_that_fails_is_an_internal_error_without_its_reason():
    class Broken(HeldDetector):
        is_broken = False

        def predict_batch(self, images, names):
            if self.is_broken:
                raise RuntimeError("secret of /home/ann")
            return super().predict_batch(images, names)

    detector = Broken()
    with RunningDetector(lambda model: detector) as server:
        server.load()
        detector.is_broken = True
        answer = server.post(draw_png())
        assert (answer.status_code, answer.json()) == (500, {"error": "internal error; the server's log says more"})
        detector.is_broken = False
        assert server.post(draw_png()).status_code == 200


def test_metrics_name_the_model_and_count_decisions():
    with RunningDetector() as server:
        server.load()
        server.predict(draw_png(255), draw_png(60))
        text = server.get("/metrics").text
        assert 'adjobs_serving_model_info{method="cdo",name="tiles",run_id="",version="1"} 1.0' in text
        assert server.metric("images_total", version="1", decision="anomalous") == 1
        assert server.metric("requests_total", route="/v1/predict", status="200") == 1
