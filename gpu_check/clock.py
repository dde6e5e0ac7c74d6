"""Wall-clock time of the parts of a run."""

import time
from datetime import UTC, datetime


class Clock:
    """Wall-clock seconds of the parts of a run."""

    def __init__(self) -> None:
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, part: str) -> None:
        now = time.perf_counter()
        self.seconds[part] = round(now - self._last, 2)
        self._last = now
