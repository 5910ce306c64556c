"""Samples answers from an OpenAI-compatible server: makes its requests and reads its replies."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpo_core.contract.errors import BadInputError, StageFailedError
from mpo_core.contract.progress import Progress
from mpo_core.contract.sampling import Answer, GenerationSettings, NoAnswer, SampledModel, SampleRequest
from mpo_core.http.address import ServiceUrl
from mpo_core.http.chat import LONGER_THAN_CONTEXT, MALFORMED, ChatClient, Completion
from mpo_core.http.client import server_key
from mpo_core.http.errors import LastingError, RefusedError
from mpo_core.http.many import ServiceDownError, ask_all
from mpo_core.http.refused import refused_service
from mpo_core.http.throttle import shared_throttle
from mpo_core.languages.defects import damaged, without_cut_character
from mpo_core.models import load_tokenizer
from mpo_core.models.chat import has_control_token
from mpo_core.models.templates import thinking_switches
from mpo_core.reply import ONLY_THOUGHTS, UNFINISHED, own_turn, separate

if TYPE_CHECKING:
    from mpo_core.sampling.backends.openai import OpenAI

_NEUTRAL = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""Parameters beyond OpenAI's own that are sent so that the model's generation_config.json does not set them."""
_SEED_MASK = 0x7FFF_FFFF
"""Every server takes a seed of 31 bits: the lowest bits of the request's seed."""
_PROBE = SampleRequest("", "Hello.", 0, 0)
_WHERE, _FIX = "sampling.backend", "Correct the backend's settings."


def ask_server(
    settings: OpenAI,
    url: ServiceUrl,
    name: str,
    requests: Sequence[SampleRequest],
    generation: GenerationSettings,
    model: SampledModel,
    progress: Progress,
    *,
    log: Path | None = None,
) -> list[Answer | NoAnswer]:
    """Asks a server for an answer to every request; returns the answers in order, with a reason where there is none.

    Args:
        settings: concurrency, timeout, and the environment variable of the key.
        url: address of the server.
        name: the model's name on the server.
        requests: the prompts to answer, with their seeds.
        generation: temperature, maximum length of an answer, and so on.
        model: system message, thinking, and the tokenizer whose control tokens no prompt may hold.
        progress: called with the number of answers so far, and the number of requests.
        log: log file of the server, if `sampling.backend.command` started it.

    Raises:
        BadInputError: the server refuses everything, or a setting does not fit.
        StageFailedError: the server does not answer any more.
    """
    if model.settings.chat_template is not None:
        raise BadInputError(
            "a server uses the chat template in the model's folder, but the settings name another one",
            where="model.chat_template",
            fix="Save the template in the model's folder and remove this setting, or sampling.backend=transformers.",
        )
    key = server_key(settings.key_variable)
    tokenizer = _tokenizer(model.folder, model.settings.model_dump_json())
    unsafe_to_send = {request for request in requests if has_control_token(tokenizer, request.text)}
    asker = _Asker(settings, url, key, name, generation, model)
    try:
        outcomes = asyncio.run(asker.all([request for request in requests if request not in unsafe_to_send], progress))
    except RefusedError as error:
        variables = [settings.key_variable] if settings.key_variable else []
        raise refused_service(f"openai:{name}", error, key_variables=variables, where=_WHERE, fix=_FIX) from None
    except ServiceDownError as error:
        more = f"; its log is {log}" if log is not None else ""
        raise StageFailedError(f"the sampling server at {url} does not answer any more ({error}){more}") from None
    replies = iter(outcomes)
    control = NoAnswer(
        "control_token", "a server could read it as the end of a turn; sampling.backend=transformers can answer it"
    )
    return [control if request in unsafe_to_send else next(replies) for request in requests]


@functools.lru_cache(maxsize=2)
def _tokenizer(folder: Path, settings_json: str) -> Any:
    from mpo_core.settings import ModelSettings

    return load_tokenizer(folder, ModelSettings.model_validate_json(settings_json))


class _Asker:
    """Asks one server for answers of one model, with requests in a form that this server accepts."""

    def __init__(
        self,
        settings: OpenAI,
        url: ServiceUrl,
        key: str,
        name: str,
        generation: GenerationSettings,
        model: SampledModel,
    ) -> None:
        self._settings, self._url, self._key = settings, url, key
        self._system = model.settings.system
        self._limit = "max_tokens"
        self._extras: dict[str, Any] = {
            **_NEUTRAL,
            "chat_template_kwargs": thinking_switches(thinking=model.settings.thinking),
        }
        self._generation = generation
        self._common = {
            "model": name,
            "temperature": generation.temperature,
            "top_p": generation.top_p,
            "n": 1,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stream": False,
        }

    async def all(self, requests: list[SampleRequest], progress: Progress) -> list[Answer | NoAnswer]:
        """Returns an answer to every request in order, or why there is none."""
        settings = self._settings
        self._chat = ChatClient(self._url, key=self._key, timeout=settings.timeout, connections=settings.concurrency)
        try:
            outcomes = await ask_all(
                requests,
                self._answer,
                probe=_PROBE,
                concurrency=settings.concurrency,
                retries=settings.retries,
                throttle=shared_throttle(f"sampling {self._url}", None, None),
                progress=progress,
            )
        finally:
            await self._chat.close()
        return [outcome if isinstance(outcome, Answer) else _no_answer(outcome.reason) for outcome in outcomes]

    def _body(self, request: SampleRequest) -> dict[str, Any]:
        messages = [{"role": "user", "content": request.text}]
        if self._system is not None:
            messages.insert(0, {"role": "system", "content": self._system})
        limit = {self._limit: self._generation.max_new_tokens}
        return {**self._common, "messages": messages, "seed": request.seed & _SEED_MASK, **limit, **self._extras}

    async def _answer(self, request: SampleRequest) -> Answer:
        """Asks for one answer; if the server rejects a field of the HTTP request, asks again without that field."""
        while True:
            extras, limit = dict(self._extras), self._limit
            reply = await self._chat.complete(self._body(request), hidden=[request.text, self._system or ""])
            if isinstance(reply, Completion):
                return _answer_of(reply, request)
            if reply.status not in MALFORMED:
                raise reply.error
            if LONGER_THAN_CONTEXT.search(reply.words):
                raise LastingError("prompt_too_long")
            unknown = next((name for name in extras if name in reply.words), None)
            if unknown is not None:
                self._extras.pop(unknown, None)
            elif "max_completion_tokens" in reply.words and limit == "max_tokens":
                self._limit = "max_completion_tokens"
            else:
                raise reply.error


def _no_answer(reason: str) -> NoAnswer:
    return NoAnswer("content_filter" if reason == "refusal" else reason, "by the server")


def _answer_of(reply: Completion, request: SampleRequest) -> Answer:
    """Turns a reply into an answer, its thoughts apart; LastingError if a filter stopped it or its text is damaged."""
    if reply.finish == "content_filter":
        raise LastingError("content_filter")
    text = reply.text or ""
    text = without_cut_character(text) if reply.finish == "length" else text
    if damaged(text, like=request.text):
        raise LastingError("invalid_text")
    parts = separate(text, context=request.text)
    thought, fault = parts.thought or reply.thought or None, parts.fault
    if fault is None and reply.thought is not None and not text.strip():
        fault = UNFINISHED if reply.finish == "length" else ONLY_THOUGHTS
    own = "" if fault else own_turn(parts.text, request.text)
    return Answer(own, reply.finish or None, reply.prompt_tokens, reply.tokens, thought, fault)
