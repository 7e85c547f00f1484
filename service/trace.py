"""One request's identity and where its time went."""

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

STAGES = ("read", "fetch", "prepare", "queue", "forward")
# Anything else could forge log lines or headers, so it is replaced, not cleaned.
SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(slots=True)
class Trace:
    """Carried from the first byte of a request to its log line."""

    request_id: str
    started: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)
    error_code: str = ""

    @classmethod
    def begin(cls, offered_id: str | None) -> "Trace":
        """Keep the caller's id when it is safe to repeat, else make one."""
        safe = offered_id is not None and SAFE_ID.fullmatch(offered_id)
        return cls(offered_id if safe and offered_id else uuid.uuid4().hex)

    def add(self, stage: str, seconds: float) -> None:
        assert stage in STAGES, stage
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    @contextmanager
    def stage(self, stage: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.add(stage, time.monotonic() - started)

    def server_timing(self) -> str:
        """The `Server-Timing` header: every stage, in milliseconds."""
        return ", ".join(f"{s};dur={self.seconds.get(s, 0.0) * 1000:.3f}" for s in STAGES)
