"""What asking may cost: requests, tokens, seconds. When it is spent, questions get a reason instead of an answer."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Budget:
    """Counts what was spent; None is no limit. Time runs only while questions are being asked.

    Requests are counted when they are sent, retries too. Tokens are counted when an answer arrives, so requests that
    are under way when the limit is reached still finish.

    >>> budget = Budget(max_requests=1)
    >>> budget.spend_request(); budget.problem()
    'the budget of 1 requests is spent: raise max_requests'
    """

    max_requests: int | None = None
    max_tokens: int | None = None
    max_seconds: float | None = None
    requests: int = 0
    tokens: int = 0
    seconds: float = 0.0
    _started: float | None = field(default=None, repr=False)

    def start(self) -> None:
        """Time begins to count."""
        self._started = time.monotonic()

    def stop(self) -> None:
        """Time no longer counts."""
        self.seconds, self._started = self.elapsed(), None

    def elapsed(self) -> float:
        """Seconds spent so far."""
        return self.seconds + (0.0 if self._started is None else time.monotonic() - self._started)

    def left(self) -> float:
        """Seconds that are left; infinite without a limit."""
        return float("inf") if self.max_seconds is None else self.max_seconds - self.elapsed()

    def spend_request(self) -> None:
        """One request is sent."""
        self.requests += 1

    def spend_tokens(self, num: int) -> None:
        """So many tokens were read and written."""
        self.tokens += num

    def problem(self) -> str | None:
        """Why nothing more may be asked, or None."""
        if self.max_requests is not None and self.requests >= self.max_requests:
            return f"the budget of {self.max_requests} requests is spent: raise max_requests"
        if self.max_tokens is not None and self.tokens >= self.max_tokens:
            return f"the budget of {self.max_tokens} tokens is spent: raise max_tokens_total"
        if self.left() <= 0:
            return f"the budget of {self.max_seconds:g} seconds is spent: raise max_seconds"
        return None
