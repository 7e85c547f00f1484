"""How long a forward pass will take: a straight line through the recent ones."""

FORGET = 0.97  # weight of a pass against the one after it: about the last thirty count


class TimeModel:
    """seconds = fixed + each x work, least squares over recent passes; both never negative."""

    def __init__(self) -> None:
        self._n = self._w = self._ww = self._s = self._ws = 0.0

    def observe(self, work: float, seconds: float) -> None:
        """A pass of `work` text tokens took `seconds`."""
        self._n = FORGET * self._n + 1
        self._w = FORGET * self._w + work
        self._ww = FORGET * self._ww + work * work
        self._s = FORGET * self._s + seconds
        self._ws = FORGET * self._ws + work * seconds

    def predict(self, work: float, passes: int = 1) -> float:
        """Seconds for `work` in so many passes; 0 before anything was observed."""
        fixed, each = self._line()
        return fixed * passes + each * work

    def _line(self) -> tuple[float, float]:
        if not self._w:
            return 0.0, 0.0
        through_zero = self._ws / self._ww
        spread = self._n * self._ww - self._w**2
        if spread < 1e-6 * self._n * self._ww:  # passes of one size tell no slope
            return 0.0, through_zero
        each = (self._n * self._ws - self._w * self._s) / spread
        fixed = (self._s - each * self._w) / self._n
        if each < 0:
            return self._s / self._n, 0.0
        return (fixed, each) if fixed >= 0 else (0.0, through_zero)
