"""Which pictures the server has been given, so that each is sent once."""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from service.client.errors import RewardServerError

Lock = TypeVar("Lock")


class Uploaded(Generic[Lock]):
    """Digests known to be stored, and one lock for each digest on its way."""

    def __init__(self, new_lock: Callable[[], Lock]) -> None:
        self._new_lock = new_lock
        self._known: set[str] = set()
        self._locks: WeakValueDictionary[str, Lock] = WeakValueDictionary()

    def __contains__(self, digest: str) -> bool:
        return digest in self._known

    def lock(self, digest: str) -> Lock:
        """Held while uploading: a second caller with the same picture waits and then knows it."""
        return self._locks.setdefault(digest, self._new_lock())

    def add(self, digest: str) -> None:
        self._known.add(digest)

    def forget(self, digests: Iterable[str]) -> None:
        self._known.difference_update(digests)


def was_forgotten(error: RewardServerError) -> bool:
    """The store is bounded and ends with the process; an upload makes the same request good."""
    return error.code == "image_not_found"
