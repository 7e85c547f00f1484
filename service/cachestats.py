"""Lookups, evictions and bytes of the engine's caches, read when they are scraped."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from rm_core.lru import ByteLru

Caches: TypeAlias = Mapping[str, "ByteLru[Any, Any]"]


class CacheStats(Collector):
    """The counts live in the caches, which know nothing of Prometheus."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches

    def collect(self) -> Iterable[Metric]:
        lookups = CounterMetricFamily(
            "vlrm_cache_lookups", "Pieces looked for", labels=("cache", "result")
        )
        evictions = CounterMetricFamily(
            "vlrm_cache_evictions", "Pieces that made room", labels=("cache",)
        )
        held = GaugeMetricFamily("vlrm_cache_bytes", "Bytes held", labels=("cache",))
        for name, cache in self._caches.items():
            lookups.add_metric((name, "hit"), cache.counts.hits)
            lookups.add_metric((name, "miss"), cache.counts.misses)
            evictions.add_metric((name,), cache.counts.evictions)
            held.add_metric((name,), cache.size_bytes)
        return (lookups, evictions, held)
