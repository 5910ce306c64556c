"""Requests chat completions from any OpenAI-compatible server, and reads its answers and errors."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import httpx

from mpo_core.http.address import ServiceUrl
from mpo_core.http.client import Answer, HttpClient
from mpo_core.http.errors import FOREIGN, LastingError, PassingError, RefusedError
from mpo_core.http.words import server_words

MALFORMED = {400, 413, 422, 500}
"""Statuses of a request in a form that the server does not take; llama.cpp answers 500 where a chat template raises."""
LONGER_THAN_CONTEXT = re.compile(r"context[ _-]?(?:length|window|size)|maximum context|too (?:many|large).{0,40}tokens")
"""What servers say of a request that is longer than the model's context; in lower case."""
_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
"""Where servers put the thoughts that they have taken out of the answer."""
_CUT_OFF = {"length", "max_tokens", "model_length", "max_output_tokens"}
_FILTERED = {"content_filter", "safety", "recitation", "refusal", "prohibited_content"}
"""What servers call the end of an answer that is too long, or that a filter stops; in lower case."""
_PAGE = re.compile(rb"\s*(?:<!doctype|<html|<\?xml|<head|data:|event:|:\s)", re.IGNORECASE)
"""How pages and streams begin."""
_CROWDED, _SERVER = {429, 529}, 500
_REASONS = {402: "quota_spent", 404: "no_such_model_or_address", 413: "too_long", 429: "quota_spent"}


class Completion(NamedTuple):
    """An answer: its text, or None where the server gave none, and how it ended.

    `finish` is `stop`, `length` or `content_filter`; any other word is the server's own, in lower case.
    """

    text: str | None
    finish: str
    thought: str | None
    prompt_tokens: int | None
    tokens: int | None


class Complaint(NamedTuple):
    """An error that the server reports, by its HTTP status or inside a reply with status 200.

    `words` is the body in lower case, `error` the exception to raise.
    """

    status: int
    words: str
    error: Exception


class ChatClient:
    """A client for the chat completions of one server. It is made and used in one event loop.

    Args:
        url: the server, with or without `/chat/completions`.
        key: the key, or an empty text.
        timeout: seconds for a whole reply.
        connections: maximum number of requests in flight at the same time.
    """

    def __init__(self, url: ServiceUrl, *, key: str, timeout: float, connections: int) -> None:
        self._address, self._key = f"{url.base.removesuffix('/chat/completions')}/chat/completions", key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = HttpClient(url, timeout=timeout, connections=connections, headers=headers)

    async def complete(self, body: Mapping[str, Any], *, hidden: Iterable[str]) -> Completion | Complaint:
        """Sends one request; returns the answer, or the error that the server reports, without the texts in `hidden`.

        Raises:
            PassingError: no whole reply came, or it holds no answer.
            RefusedError: the server is no OpenAI-compatible one.
        """
        answer = await self._http.request("POST", self._address, body=dict(body))
        hidden = [*hidden, self._key]
        error = _error_in(answer)
        if error is not None:
            status, kind = error
            words = answer.body[:10_000].decode(errors="replace").lower()
            return Complaint(status, words, _error(answer, status, kind, hidden))
        if _is_foreign(answer):
            page = answer.body.lstrip().startswith(b"<")
            raise RefusedError(
                FOREIGN, status=answer.status, words=server_words(answer.body, hidden=hidden) if page else ""
            )
        return _completion(answer)

    async def close(self) -> None:
        """Ends the connections."""
        await self._http.close()


def _error(answer: Answer, status: int, kind: str, hidden: list[str]) -> Exception:
    """Turns an error that the server reports into the exception that says whether another attempt can help."""
    if any(name in kind for name in ("content_filter", "content_policy", "moderation", "safety")):
        return LastingError("refusal")
    if status in _CROWDED and "insufficient_quota" not in kind:
        return PassingError("too_many_requests", after=answer.after, crowded=True)
    if status >= _SERVER or status in {408, 409, 425}:
        return PassingError("server_error", after=answer.after)
    words = server_words(answer.body, hidden=hidden)
    return RefusedError(_REASONS.get(status, f"http_{status}"), status=status, words=words)


def _error_in(answer: Answer) -> tuple[int, str] | None:
    """Returns the status of an error and its `code` and `type`, also of one inside a 200; None for a success."""
    try:
        data: Any = answer.json()
    except (PassingError, LastingError):
        data = None
    data = data[0] if isinstance(data, list) and data else data
    data = data if isinstance(data, dict) else {}
    is_success = httpx.codes.is_success(answer.status)
    error = data.get("error") or _error_of_choice(data.get("choices"))
    says = any(isinstance(data.get(key), str | list) for key in ("message", "detail"))
    if is_success and not error and (data.get("choices") or not says):
        return None
    fields = error if isinstance(error, dict) else data
    kind = " ".join(str(fields[key]).lower() for key in ("code", "type", "innererror") if fields.get(key))
    return (_status_in(fields, kind) if is_success else answer.status), kind


def _error_of_choice(choices: Any) -> Any:
    """Returns the error that OpenRouter puts into the first choice, or None."""
    return choices[0].get("error") if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None


def _status_in(fields: dict[str, Any], kind: str) -> int:
    """Returns the HTTP status that fits an error inside a reply with status 200."""
    for value in (fields.get("code"), fields.get("status"), fields.get("status_code")):
        if re.fullmatch("[45][0-9][0-9]", str(value)):
            return int(str(value))
    statuses = {"insufficient_quota": 429, "rate_limit": 429, "overloaded": 529, "server_error": 500, "internal": 500}
    statuses |= {"authentication": 401, "invalid_api_key": 401, "permission": 403, "not_found": 404, "timeout": 408}
    return next((status for name, status in statuses.items() if name in kind), 400)


def _is_foreign(answer: Answer) -> bool:
    """Returns whether a reply is a web page, a stream or the data of another kind of service."""
    if _PAGE.match(answer.body):
        return True
    try:
        data: Any = answer.json()
    except (PassingError, LastingError):
        return False
    return isinstance(data, dict) and bool(data) and "choices" not in data


def _completion(answer: Answer) -> Completion:
    """Reads the first choice of a server's answer; PassingError if there is none, or it ended in an error."""
    data: Any = answer.json()
    try:
        choice = data["choices"][0]
        message, finish = choice["message"], str(choice.get("finish_reason") or "").lower()
        content = message.get("content")
    except (LookupError, TypeError, AttributeError):
        raise PassingError("no_answer") from None
    if finish == "error":
        raise PassingError("server_error")
    if isinstance(content, list):  # Mistral's and others' parts, among them thoughts
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict) and _is_text(part))
    if finish in _FILTERED or message.get("refusal"):
        finish = "content_filter"
    elif finish in _CUT_OFF:
        finish = "length"
    thoughts = [message[field] for field in _THOUGHT_FIELDS if message.get(field)]
    thought = None if not thoughts else thoughts[0] if isinstance(thoughts[0], str) else ""
    usage = data.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    text = content if isinstance(content, str) else None
    return Completion(
        text, finish, thought, *(_count(usage.get(f"{part}_tokens")) for part in ("prompt", "completion"))
    )


def _is_text(part: dict[str, Any]) -> bool:
    return part.get("type", "text") in {"text", "output_text"}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
