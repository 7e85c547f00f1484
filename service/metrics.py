"""Every number the server exports, in one object that owns its registry."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from service.cachestats import Caches, CacheStats
from service.trace import STAGES, Trace

if TYPE_CHECKING:
    from rm_core.encode import EncodedGroup

# Scoring takes 1 to 300 ms, so that is where the edges are dense.
SECONDS = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
)
SIZES = tuple(2.0**k for k in range(18))
SCORES = (-20, -15, -10, -7.5, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 7.5, 10, 15, 20)
MARGINS = (0, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16)
SCORING_ROUTES = (
    *("/score", "/compare", "/rank"),
    *("/get_reward", "/classify", "/pooling", "/v1/embeddings", "/rerank", "/v1/score/evaluation"),
)


class Metrics:
    """One attribute per metric. A new one is one line here and one panel on the dashboard."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # Else every counter exports a second, useless time series.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = r = registry
        self.requests = Counter(
            "vlrm_requests", "Answered requests", ("route", "status"), registry=r
        )
        self.request_seconds = Histogram(
            "vlrm_request_seconds", "First byte to answer", ("route",), buckets=SECONDS, registry=r
        )
        self.stage_seconds = Histogram(
            "vlrm_stage_seconds",
            "Time of a request by stage",
            ("stage",),
            buckets=SECONDS,
            registry=r,
        )
        self.rejected = Counter(
            "vlrm_rejected", "Requests answered with an error, by its code", ("reason",), registry=r
        )
        self.callers_left = Counter(
            "vlrm_callers_left", "Callers gone before their answer", registry=r
        )
        self.in_flight = Gauge("vlrm_in_flight", "Accepted and unanswered requests", registry=r)
        self.queue_groups = Gauge("vlrm_queue_groups", "Groups waiting for the device", registry=r)
        self.expected_wait = Gauge(
            "vlrm_expected_wait_seconds", "Predicted wait of a request that came now", registry=r
        )
        self.batch_budget = Gauge(
            "vlrm_batch_budget_tokens", "What a forward pass may cost, in text tokens", registry=r
        )
        self.ready = Gauge("vlrm_ready", "1 when new work is taken", registry=r)
        self.draining = Gauge("vlrm_draining", "1 when the server is going away", registry=r)
        self.batch_groups = Histogram(
            "vlrm_batch_groups", "Groups in a forward pass", buckets=SIZES[:11], registry=r
        )
        self.batch_tokens = Histogram(
            "vlrm_batch_tokens", "Tokens in a forward pass", buckets=SIZES, registry=r
        )
        self.batch_patches = Histogram(
            "vlrm_batch_patches", "Picture patches in a forward pass", buckets=SIZES, registry=r
        )
        self.forward_seconds = Histogram(
            "vlrm_forward_seconds", "Duration of a forward pass", buckets=SECONDS, registry=r
        )
        self.tokens = Counter(
            "vlrm_tokens",
            "Tokens computed, and tokens saved by sharing and keeping prompts",
            ("kind",),
            registry=r,
        )
        self.scores = Histogram("vlrm_score", "Raw scores sent", buckets=SCORES, registry=r)
        self.margins = Histogram(
            "vlrm_compare_margin", "Absolute margins of /compare", buckets=MARGINS, registry=r
        )
        self.worker_failures = Counter(
            "vlrm_worker_failures", "Forward passes that raised", registry=r
        )
        self.store_bytes = Gauge("vlrm_image_store_bytes", "Bytes of uploaded pictures", registry=r)
        self.store_images = Gauge("vlrm_image_store_images", "Uploaded pictures held", registry=r)
        self.media_fetches = Counter(
            "vlrm_media_fetches",
            "Pictures fetched by URL: ok, cancelled, or the code of the error",
            ("result",),
            registry=r,
        )
        self.media_fetch_bytes = Counter(
            "vlrm_media_fetch_bytes", "Bytes of pictures read from URLs", registry=r
        )
        self.model_info = Gauge(
            "vlrm_model_info",
            "Always 1; the model is in the labels",
            ("name", "revision", "head", "dtype", "device", "attention"),
            registry=r,
        )
        self.golden_max_difference = Gauge(
            "vlrm_golden_max_difference", "Largest difference from the golden scores", registry=r
        )
        self.golden_rows = Gauge(
            "vlrm_golden_rows", "Golden scores compared at start-up", registry=r
        )
        self._start_at_zero()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)

    def _start_at_zero(self) -> None:
        """So that the first event of each kind is seen by rate()."""
        for route in SCORING_ROUTES:
            self.requests.labels(route, "200")
            self.request_seconds.labels(route)
        for stage in STAGES:
            self.stage_seconds.labels(stage)
        for kind in ("computed", "shared"):
            self.tokens.labels(kind)
        for result in ("ok", "cancelled", "url_not_allowed", "fetch_failed", "fetch_too_slow"):
            self.media_fetches.labels(result)
        for reason in ("overloaded", "draining", "deadline_passed", "forward_failed"):
            self.rejected.labels(reason)

    def watch_caches(self, caches: Caches) -> None:
        self.registry.register(CacheStats(caches))

    def watch(self, gauge: Gauge, read: Callable[[], float]) -> None:
        """Read the truth at scrape time instead of keeping a second copy of it."""
        gauge.set_function(read)

    def request_done(self, route: str, status: int, seconds: float, trace: Trace) -> None:
        self.requests.labels(route, str(status)).inc()
        self.request_seconds.labels(route).observe(seconds)
        for stage, spent in trace.seconds.items():
            self.stage_seconds.labels(stage).observe(spent)
        if trace.error_code:
            self.rejected.labels(trace.error_code).inc()

    def batch_done(
        self, groups: Sequence["EncodedGroup"], computed: Sequence[int], forward_s: float
    ) -> None:
        self.forward_seconds.observe(forward_s)
        self.batch_groups.observe(len(groups))
        self.batch_tokens.observe(sum(computed))
        self.batch_patches.observe(sum(group.num_patches for group in groups))
        alone = sum(g.prompt_tokens * len(g.answer_ids) + sum(g.answer_tokens) for g in groups)
        self.tokens.labels("computed").inc(sum(computed))
        self.tokens.labels("shared").inc(alone - sum(computed))

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)

    def names(self) -> set[str]:
        """Sample names a query may use, for the test that compares dashboards with the server."""
        lines = self.exposition().decode().splitlines()
        return {line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")}
