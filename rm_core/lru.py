"""Values kept by key within a bound in bytes; the least recently used ones go first."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(slots=True)
class Counts:
    """How often a cache was asked, and how often it knew."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0


class ByteLru(Generic[K, V]):
    """Thread-safe. A hit needs an equal key, never only an equal hash; 0 bytes keep nothing."""

    def __init__(self, limit_bytes: int, size_of: Callable[[K, V], int]) -> None:
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._limit, self._size_of, self._lock = limit_bytes, size_of, Lock()
        self.size_bytes = 0
        self.counts = Counts()

    @property
    def is_off(self) -> bool:
        return self._limit == 0

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: K) -> bool:
        return key in self._kept

    def get(self, key: K) -> V | None:
        """The value, now the most recently used one."""
        with self._lock:
            if key not in self._kept:
                self.counts.misses += 1
                return None
            self.counts.hits += 1
            self._kept.move_to_end(key)
            return self._kept[key]

    def touch(self, key: K) -> None:
        """Used again, without a question."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)

    def put(self, key: K, value: V) -> None:
        """Keep `value`; one larger than the whole bound is not kept."""
        size = self._size_of(key, value)
        if size > self._limit:
            return
        with self._lock:
            self._drop(key)
            self._kept[key] = value
            self.size_bytes += size
            while self.size_bytes > self._limit:
                self._drop(next(iter(self._kept)))
                self.counts.evictions += 1

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self.size_bytes = 0

    def _drop(self, key: K) -> None:
        if key in self._kept:
            self.size_bytes -= self._size_of(key, self._kept.pop(key))
