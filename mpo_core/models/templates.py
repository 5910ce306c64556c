"""Renders chat templates in a process of its own, with bounds on time, memory and length."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mpo_core.contract.errors import BadInputError
from mpo_core.models.library import reading
from mpo_core.models.renderer import MEMORY

SECONDS = 5
"""Processor time that one rendering may take."""
_PATIENCE = 120.0  # seconds on the wall, on a machine that is busy; the renderer's own limit is processor time
_LONGEST = 2**20  # characters of a template
_FIX = "Fix the chat template, or give another one with --set model.chat_template=FILE."
_PROBE = (
    "Bake \"bread\" & say 'hello' <b>twice</b>, 1 < 2.\nনমস্কার, 你好: {{ 7 * 7 }} " + "and so on, " * 40 + "to the end."
)

Messages = list[dict[str, str]]


class TemplateError(Exception):
    """A chat template could not be rendered. The message says why, and never repeats the conversation."""


class _Renderer:
    """The process that renders chat templates. It starts at its first use, and again after it died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def ask(self, request: dict[str, Any]) -> dict[str, str]:
        """Sends a request to the process and returns its answer.

        Raises:
            TemplateError: the process died, or took too long.
        """
        with self._lock:
            process = self._running()
            try:
                answer = _exchange(process, json.dumps(request, default=str).encode() + b"\n")
            except BaseException:
                self._end()
                raise
            if answer is None:
                raise TemplateError(_cause_of_death(self._end()))
            fields: dict[str, str] = json.loads(answer)
            return fields

    def _running(self) -> subprocess.Popen[bytes]:
        # A process that was forked off shares the pipes of its parent and needs a renderer of its own.
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._owner = os.getpid()
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(Path(__file__).with_name("renderer.py"))],
                stdin=subprocess.PIPE,  # it ends when this closes, so it never outlives this process
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for this process, which may still have something to save
            )
        return self._process

    def _end(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        return process.wait()


def _exchange(process: subprocess.Popen[bytes], request: bytes) -> bytes | None:
    """Sends one line to the process and returns the line that it answers, or None if the process ended."""
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stdout is not None  # noqa: S101
    try:
        rest = memoryview(request)
        while rest:
            rest = rest[process.stdin.write(rest) :]
    except BrokenPipeError:
        return None
    answer, deadline = bytearray(), time.monotonic() + _PATIENCE
    while not answer.endswith(b"\n"):
        if not select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TemplateError(f"it did not finish within {_PATIENCE:g} seconds")
        part = process.stdout.read(2**16)
        if not part:
            return None
        answer += part
    return bytes(answer)


def _cause_of_death(code: int) -> str:
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"it did not finish within {SECONDS} seconds of computing"
    return f"it crashed its interpreter (exit code {code})"


_RENDERER = _Renderer()


def render(
    tokenizer: Any, messages: Messages, *, thinking: bool = False, arguments: Mapping[str, Any] = MappingProxyType({})
) -> str:
    """Returns a conversation as text in the tokenizer's chat template, up to and including the assistant's header.

    The argument `add_generation_prompt=False` leaves out this header.

    Raises:
        BadInputError: the template raises something, does not end, gives far too much text, or loses a message's text.
    """
    where = f"model {getattr(tokenizer, 'name_or_path', '')}"
    with _as_bad_input("the chat template fails on a conversation: {}", where=where, fix=_FIX):
        return render_messages(tokenizer, messages, thinking_switches(thinking=thinking) | dict(arguments))


@contextlib.contextmanager
def _as_bad_input(what: str, *, where: str, fix: str) -> Iterator[None]:
    """Turns a `TemplateError` into one clear error; its message takes the place of `{}` in `what`."""
    try:
        yield
    except TemplateError as error:
        raise BadInputError(what.replace("{}", str(error)), where=where, fix=fix) from None


def render_messages(tokenizer: Any, messages: Messages, switches: Mapping[str, Any], *, quote: bool = False) -> str:
    """Returns the text that `render` returns, but raises an error that the caller explains.

    `quote` lets an error quote the template's own message: only where the conversation is not the user's.

    Raises:
        TemplateError: see `render`.
    """
    rendered = _rendered(tokenizer, messages, switches, quote=quote)
    if not rendered.strip() and any(message["content"].strip() for message in messages):
        raise TemplateError("it renders an empty text")
    for message in messages:
        if message["content"].strip() not in rendered:
            raise TemplateError(f"it drops or changes the {message['role']}'s text")
    return rendered


def _rendered(tokenizer: Any, messages: Messages, switches: Mapping[str, Any], *, quote: bool) -> str:
    from transformers import PreTrainedTokenizerBase

    switches = {"add_generation_prompt": True, **switches}
    if type(tokenizer).apply_chat_template is not PreTrainedTokenizerBase.apply_chat_template:
        # This class of tokenizers renders without a template.
        with _as_template_error(quote=quote):
            rendered: str = tokenizer.apply_chat_template(messages, tokenize=False, **switches)
            return rendered
    template = template_of(tokenizer)
    special = {**tokenizer.special_tokens_map, **switches}
    request = {"template": template, "messages": messages, "special": special, "seconds": SECONDS}
    answer = _RENDERER.ask(request)
    if "text" in answer:
        return answer["text"]
    kind, message = answer["error"], " ".join(answer["message"].split())[:200].rstrip(".")
    if kind == "MemoryError":
        raise TemplateError(f"it needs more than {MEMORY // 2**20} MiB of memory")
    if kind == "TooLong":
        raise TemplateError(f"it makes {message} of a short conversation")
    raise TemplateError(f"{kind}: {message}" if quote and message else kind)


def thinking_switches(*, thinking: bool) -> dict[str, bool]:
    """Returns the switches of templates for thoughts.

    `enable_thinking` is Qwen's, GLM's and SmolLM's, `thinking` Granite's and DeepSeek's.
    """
    return {"enable_thinking": thinking, "thinking": thinking}


@contextlib.contextmanager
def _as_template_error(*, quote: bool) -> Any:
    try:
        with reading("it fails", where="", fix=""):
            yield
    except BadInputError as error:
        raise TemplateError(error.what if quote else "it raises an error") from None


def template_of(tokenizer: Any) -> str:
    """Returns the text of the tokenizer's chat template.

    Raises:
        TemplateError: it is not text, is too long, or there are several and none of them is the default.
    """
    template = tokenizer.chat_template
    if isinstance(template, dict):
        if "default" not in template:
            raise TemplateError("there are several templates and none is called default")
        template = template["default"]
    if not isinstance(template, str):
        raise TemplateError(f"it is of type {type(template).__name__}, not text")
    if len(template) > _LONGEST:
        raise TemplateError(f"it has {len(template)} characters, more than {_LONGEST}")
    return template


def try_template(
    tokenizer: Any, system: str | None, *, where: str, arguments: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Refuses a chat template that cannot render a harmless request, with and without the system message.

    Gemma's template refuses a system message, others drop it, and a user's own file may not be Jinja at all.

    Raises:
        BadInputError: a conversation cannot be rendered, or its text is not in what is rendered.
    """
    turns, switches = [{"role": "user", "content": _PROBE}], thinking_switches(thinking=False) | dict(arguments)
    with _as_bad_input("the chat template cannot be rendered: {}", where=where, fix=_FIX):
        render_messages(tokenizer, turns, switches, quote=True)
    if system is None:
        return
    fix = "Remove model.system, or give a template that takes one with --set model.chat_template=FILE."
    with _as_bad_input("the chat template takes no system message ({})", where="model.system", fix=fix):
        render_messages(tokenizer, [{"role": "system", "content": system}, *turns], switches, quote=True)
