"""The process that renders chat templates: one JSON line in, one JSON line out, bounded in memory and time.

A chat template is a program that came with the model. The sandbox of Jinja keeps it from the machine, but not
from looping for ever or from multiplying text; limits of the operating system do. This file is run by its path, so
that it imports nothing of the project.
"""

import json
import math
import resource
import sys
from datetime import datetime, tzinfo
from typing import Any

MEMORY = 512 * 2**20
"""Bytes of memory that the process may take beyond those it has after its imports."""
TODAY = datetime(2024, 7, 26)  # noqa: DTZ001 - a template prints it; no zone is meant
"""The date that chat templates get for today, so that a prompt is the same on every day: Llama's own default."""
ROOM = 2**20
"""Characters that a rendered conversation may have beyond 16 times those of its messages."""


class _Today(datetime):
    """A `datetime` for which today is always `TODAY`."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        """Returns `TODAY`, whatever the zone."""
        return TODAY.replace(tzinfo=tz)


def _bound_memory() -> None:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - nothing is imported without need
            pages = int(file.read().split()[0])
    except OSError:  # no Linux: the limit is on all that the process has
        pages = 0
    limit = pages * resource.getpagesize() + MEMORY
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _bound_time(seconds: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = math.ceil(used.ru_utime + used.ru_stime) + seconds
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _answer(request: dict[str, Any]) -> dict[str, str]:
    from transformers.utils.chat_template_utils import render_jinja_template

    messages = request["messages"]
    try:
        rendered = render_jinja_template(
            conversations=[messages],
            chat_template=request["template"],
            **request["special"],
        )
        text = rendered[0][0]
    except Exception as error:  # noqa: BLE001 - whatever a template raises goes to the caller
        return {"error": type(error).__name__, "message": str(error)[:1000]}
    limit = ROOM + 16 * sum(len(message["content"]) for message in messages)
    if len(text) > limit:
        return {"error": "TooLong", "message": f"{len(text)} characters"}
    return {"text": text}


def main() -> None:
    """Renders the conversations that arrive as lines of JSON on stdin, until stdin closes."""
    from transformers.utils import chat_template_utils  # imported before memory is bounded

    # transformers 5.23 offers no other way to set `strftime_now`, which templates call.
    chat_template_utils.datetime = _Today  # type: ignore[misc]
    sys.setrecursionlimit(1000)
    _bound_memory()
    for line in sys.stdin:
        request = json.loads(line)
        _bound_time(request["seconds"])
        sys.stdout.write(json.dumps(_answer(request)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
