"""The queue's figures for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from adjobs.queue.access import Viewer
from adjobs.queue.answers import TEXT_ERRORS
from adjobs.queue.dispatcher import Limits
from adjobs.queue.figures import BUCKETS, ENDED_TOTAL, LOST_TOTAL, RUNNING, SUM, WAITING, Figures
from adjobs.queue.heartbeat import Heartbeat
from adjobs.queue.schedules import Schedules
from adjobs.queue.states import ENDED, HOLDING_SLOT, JobState
from adjobs.queue.store import JobStore


def add_metrics(
    app: FastAPI, store: JobStore, schedules: Schedules, limits: Limits, heartbeat: Heartbeat, clock: Callable[[], float]
) -> None:
    """Add the endpoint that Prometheus reads."""
    registry = CollectorRegistry()

    @app.get("/metrics", response_class=PlainTextResponse, responses=TEXT_ERRORS)
    def metrics(identity: Viewer) -> PlainTextResponse:
        """Figures for Prometheus."""
        return PlainTextResponse(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    class QueueCollector(Collector):
        def collect(self) -> Iterator[Metric]:
            yield from _collect(store, limits, heartbeat, clock)
            yield _schedules(schedules)

    registry.register(QueueCollector())


def _collect(store: JobStore, limits: Limits, heartbeat: Heartbeat, clock: Callable[[], float]) -> Iterator[Metric]:
    counts, since, figures = store.counts(), store.queued_since(), store.figures()
    by_state = GaugeMetricFamily("adjobs_jobs", "Jobs on record by state.", labels=["state"])
    for state in JobState:
        by_state.add_metric([state], counts[state])
    yield by_state
    wait = 0.0 if since is None else max(0.0, clock() - since)
    yield GaugeMetricFamily("adjobs_longest_wait_seconds", "Age of the oldest queued job.", wait)
    yield GaugeMetricFamily("adjobs_slots", "Jobs that may run at once.", limits.slots)
    yield GaugeMetricFamily("adjobs_slots_held", "Jobs that start or run.", sum(counts[state] for state in HOLDING_SLOT))
    yield GaugeMetricFamily("adjobs_images_per_second", "Images per second of all trainings.", store.images_per_second())
    yield GaugeMetricFamily("adjobs_dispatcher_step_age_seconds", "Time since the dispatcher's last step.", heartbeat.age())
    ended = CounterMetricFamily("adjobs_jobs_ended", "Ends of jobs by outcome, those that were pruned too.", labels=["state"])
    for state in ENDED:
        ended.add_metric([state], figures.get((ENDED_TOTAL, state), 0.0))
    yield ended
    lost = figures.get((LOST_TOTAL, ""), 0.0)
    yield CounterMetricFamily("adjobs_attempts_lost", "Attempts that were lost or interrupted and are followed by another.", lost)
    yield _histogram(figures, WAITING, "adjobs_waiting_seconds", "From the submission of a job to its first start.")
    yield _histogram(figures, RUNNING, "adjobs_running_seconds", "From the start of an attempt to its end.")


def _schedules(schedules: Schedules) -> GaugeMetricFamily:
    by_state = GaugeMetricFamily("adjobs_schedules", "Schedules by state.", labels=["state"])
    for state, count in schedules.counts().items():
        by_state.add_metric([state], count)
    return by_state


def _histogram(figures: Figures, name: str, title: str, description: str) -> HistogramMetricFamily:
    buckets, total = [], 0.0
    for bound in BUCKETS:
        total += figures.get((name, f"{bound:g}"), 0.0)
        buckets.append(("+Inf" if bound == float("inf") else f"{bound:g}", total))
    return HistogramMetricFamily(title, description, buckets=buckets, sum_value=figures.get((name, SUM), 0.0))
