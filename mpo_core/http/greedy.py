"""Asks one model on a chat server at temperature 0, with only those fields in the request that the server accepts."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from mpo_core.contract.errors import BadInputError
from mpo_core.http.address import ServiceUrl
from mpo_core.http.chat import LONGER_THAN_CONTEXT, MALFORMED, ChatClient, Completion
from mpo_core.http.client import header_value
from mpo_core.http.errors import LastingError, PassingError

Message = Mapping[str, str]
"""A turn of a conversation: its `role` and `content`."""
_URL = "https://api.openai.com/v1"
_SCHEMA = re.compile(r"response_format|schema|structured")
_SYSTEM = re.compile(r"\bsystem\b|\broles?\b|\bdeveloper\b")


@dataclass(frozen=True)
class _Form:
    """The optional fields of a request, since servers differ in which of them they accept."""

    limit: str | None = "max_tokens"
    """The parameter that limits the answer; None sends no limit, and the server's own holds."""
    temperature: bool = True
    schema: bool = True
    """Whether a schema of the answer is sent, where there is one."""
    system: bool = True
    """Whether instructions are a system message; else they precede the request."""
    arguments: bool = True
    """Whether arguments of the chat template are sent, where there are any."""

    def body(
        self,
        model: str,
        messages: Sequence[Message],
        max_tokens: int,
        schema: Mapping[str, Any] | None,
        arguments: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Returns the body of a request in this form."""
        first, *others = messages
        if not self.system and first["role"] == "system" and others:
            messages = [{**others[0], "content": f"{first['content']}\n\n{others[0]['content']}"}, *others[1:]]
        body: dict[str, Any] = {"model": model, "messages": [dict(message) for message in messages]}
        if self.temperature:
            body["temperature"] = 0.0
        if self.limit is not None:
            body[self.limit] = max_tokens
        if self.arguments and arguments:
            body["chat_template_kwargs"] = dict(arguments)
        if self.schema and schema is not None:
            form = {"name": "answer", "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return body

    def without(self, complaint: str, body: Mapping[str, Any]) -> "_Form | None":
        """Returns the form to try next after an error with this text in lower case, or None if there is no other."""
        limited = self.limit is not None
        changes: list[tuple[object, dict[str, Any]]] = [
            ("chat_template_kwargs" in body and "chat_template_kwargs" in complaint, {"arguments": False}),
            ("response_format" in body and _SCHEMA.search(complaint), {"schema": False}),
            (limited and LONGER_THAN_CONTEXT.search(complaint), {"limit": None}),
            (self.limit == "max_tokens" and "max_tokens" in complaint, {"limit": "max_completion_tokens"}),
            (limited and "max_completion_tokens" in complaint, {"limit": None}),
            (self.temperature and "temperature" in complaint, {"temperature": False}),
            (self.system and _SYSTEM.search(complaint), {"system": False}),
        ]
        return next((replace(self, **change) for applies, change in changes if applies), None)


class GreedyModel:
    """A model on a chat server that answers at temperature 0. It is made and used in one event loop.

    Args:
        model: the model's name on the server.
        url: the server. Default: OpenAI's own.
        key_variable: environment variable that holds the key; it may be unset.
        timeout: seconds for a whole reply.
        connections: maximum number of requests in flight at the same time.

    Raises:
        BadInputError: the key holds a character that no key has.
    """

    def __init__(self, *, model: str, url: str | None, key_variable: str, timeout: float, connections: int) -> None:
        address = url if isinstance(url, ServiceUrl) else ServiceUrl(url or _URL)
        self._model, self._form = model, _Form()
        self.key_variables = [key_variable] if address.user is None else []
        self._chat = ChatClient(address, key=_key(key_variable), timeout=timeout, connections=connections)

    async def ask(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        hidden: Iterable[str],
        schema: Mapping[str, Any] | None = None,
        arguments: Mapping[str, Any] = MappingProxyType({}),
    ) -> Completion:
        """Returns a whole answer; if the server rejects a field of the request, sends it again without that field.

        Args:
            messages: the conversation; instructions are its first message, with the role `system`.
            max_tokens: maximum length of the answer, in tokens.
            hidden: texts of the request; an error never repeats them.
            schema: JSON schema of the answer, for servers that hold a model to one; others ignore it.
            arguments: further arguments of the model's chat template, for servers that render it themselves.

        Raises:
            PassingError: another attempt may help.
            LastingError: no answer to this text: a filter stopped it (`refusal`), or it is too long (`truncated`).
            RefusedError: the server refuses the request.
        """
        form: _Form | None = self._form
        refusal: Exception = PassingError("no_answer")
        limit_of_others: str | None = None
        while form is not None:
            body = form.body(self._model, messages, max_tokens, schema, arguments)
            completion = await self._chat.complete(body, hidden=hidden)
            if isinstance(completion, Completion):
                # The next text is sent in the form that worked; a limit that was too much for this long text is not so
                # for others.
                self._form = replace(form, limit=form.limit or limit_of_others)
                if completion.finish in {"content_filter", "length"}:
                    raise LastingError("refusal" if completion.finish == "content_filter" else "truncated")
                return completion
            refusal = completion.error
            if LONGER_THAN_CONTEXT.search(completion.words):
                limit_of_others = form.limit or limit_of_others
            form = form.without(completion.words, body) if completion.status in MALFORMED else None
        raise refusal

    async def close(self) -> None:
        """Ends the connections."""
        await self._chat.close()


def require_key(url: str | None, key_variable: str) -> None:
    """Rejects a malformed key, and a missing one where OpenAI's own server is used.

    Raises:
        BadInputError: the key is malformed or missing.
    """
    if not _key(key_variable) and url is None:
        raise BadInputError(
            "the server of OpenAI needs a key",
            where=f"environment variable {key_variable}",
            fix="Set it, or give the url of your own server.",
        )


def _key(variable: str) -> str:
    return header_value(os.environ.get(variable, ""), where=f"environment variable {variable}")
