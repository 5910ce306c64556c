"""Errors of a request: one that may pass, one that is about this text, and a refusal by the server."""

FOREIGN = "foreign_reply"
"""The reason where a server answers with success, and yet not as its kind of service does."""


class PassingError(Exception):
    """A request failed for a reason that may pass, so that it is worth sending again.

    `reason` is a short stable name, such as `timed_out`; `after` are the seconds that the server wants its clients to
    wait, and `crowded` says whether it said "too many requests".
    """

    def __init__(self, reason: str, *, after: float | None = None, crowded: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.after, self.crowded = reason, after, crowded


class LastingError(Exception):
    """A request failed for a reason that lasts, such as a text that is too long: sending it again does not help."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RefusedError(LastingError):
    """The server refuses a request, and may refuse every other one too, as with a wrong key.

    `status` is the HTTP status, or the number in an error with status 200; `words` are the server's own, without the
    request's text.
    """

    def __init__(self, reason: str, *, status: int, words: str = "") -> None:
        super().__init__(reason)
        self.status, self.words = status, words
