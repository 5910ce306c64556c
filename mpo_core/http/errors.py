"""Errors of a request: one that may pass, one that is about this text, and a refusal by the server."""


class PassingError(Exception):
    """A request failed for a reason that may pass, so that it is worth sending again.

    Args:
        reason: short stable name, such as `timed_out`.
        after: seconds that the server wants its clients to wait.
        crowded: whether the server said "too many requests".
    """

    def __init__(self, reason: str, *, after: float | None = None, crowded: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.after, self.crowded = reason, after, crowded


class LastingError(Exception):
    """A request failed for a reason that lasts, such as a text that is too long: sending it again does not help.

    Args:
        reason: short stable name, such as `too_long`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RefusedError(LastingError):
    """The server refuses a request, and may refuse every other one too, as with a wrong key.

    Args:
        reason: short stable name, such as `http_400`.
        status: the HTTP status, or the number in the error if the server sends an error with status 200.
        words: the server's own words, shortened, without the request's text.
    """

    def __init__(self, reason: str, *, status: int, words: str = "") -> None:
        super().__init__(reason)
        self.status, self.words = status, words
