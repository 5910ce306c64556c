"""Makes a tokenizer read texts as tokenizer.json describes, whatever its class would make of them."""

import logging
import re
from pathlib import Path
from typing import Any

from mpo_core.models.folder import json_object
from mpo_core.models.library import reading

_log = logging.getLogger(__name__)

_PROBE = "Here it's 2023!  DON'T add 12345 + 67.\n\nＡＢ é, 你好世界, নমস্কার, مرحبا:\t{x} (y) <b>z</b>"
"""A text whose tokens show how a tokenizer normalises, and where it splits words, numbers and spaces."""
_FIRST = 6
"""Tokens at most of the first word of `_PROBE` with a space before it."""


def as_described(folder: Path, tokenizer: Any) -> Any:
    """Returns a tokenizer that reads texts as tokenizer.json in its folder describes: the given one, or a plain one.

    transformers 5.23 lets some classes replace the normaliser and the splitting into words of that file: GPT-2's for
    any model, and Qwen's for any model of its architecture. The model would silently get tokens that it was never
    trained on (huggingface/transformers#45920). Where a plain tokenizer differs from the file too, other files say so,
    such as tokens that they add; so no tokenizer is refused for a difference. The option `add_prefix_space`, where it
    is set, says whether a text begins with a space. Code that came with the model is left as it is.

    Raises:
        BadInputError: the tokenizer cannot be read.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    file, kind = folder / "tokenizer.json", type(tokenizer)
    replaces = issubclass(kind, PreTrainedTokenizerFast) and kind is not PreTrainedTokenizerFast
    if not replaces or not kind.__module__.startswith("transformers.") or not file.is_file():
        return tokenizer
    with reading("the tokenizer cannot be used", where=f"model {file}", fix="Save the tokenizer again."):
        described, prefix = Tokenizer.from_file(str(file)), _prefix_space(folder)
        described.no_truncation()
        described.no_padding()
        own = _tokens(tokenizer)
        if _alike(own, described.encode(_PROBE, add_special_tokens=False).ids, prefix=prefix):
            return tokenizer
        plain = PreTrainedTokenizerFast.from_pretrained(folder)
        if _alike(own, _tokens(plain), prefix=prefix):
            return tokenizer
        _begin_texts(plain.backend_tokenizer, prefix=prefix)
        # Classes have special tokens that tokenizer_config.json need not name.
        named = {name: getattr(tokenizer, name) for name in ("bos_token", "eos_token", "pad_token")}
        known = plain.get_vocab()
        plain.add_special_tokens({k: v for k, v in named.items() if getattr(plain, k) is None and v in known})
    _log.info("the tokenizer is read as its file describes, not as a %s", kind.__name__)
    return plain


def _prefix_space(folder: Path) -> bool | None:
    """Returns whether a text begins with a space by the tokenizer's options; None if they leave it to the file."""
    name = "tokenizer_config.json"
    option = json_object(folder, name).get("add_prefix_space") if (folder / name).is_file() else None
    return None if option is None else bool(option)


def _tokens(tokenizer: Any) -> list[int]:
    ids: list[int] = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    return ids


def _alike(own: list[int], other: list[int], *, prefix: bool | None) -> bool:
    """Returns whether two tokenizers read the probe alike; its beginning is left out if an option decides on it."""
    if prefix is None:
        return own == other
    rest = max(0, len(other) - _FIRST)
    return own[::-1][:rest] == other[::-1][:rest]


def _begin_texts(core: Any, *, prefix: bool | None) -> None:
    """Lets texts begin with a space or without one, as the option says; None leaves it to the file.

    A plain tokenizer of transformers 5.23 only stores this option.
    """
    from tokenizers import pre_tokenizers

    splitting = core.pre_tokenizer
    if prefix is None or splitting is None:
        return
    if prefix and core.encode("a", add_special_tokens=False).tokens == ["a"]:
        # In a sequence, `ByteLevel` would put a space before each piece; this puts one before the text.
        space = pre_tokenizers.Metaspace(replacement=" ", prepend_scheme="always", split=False)
        core.pre_tokenizer = pre_tokenizers.Sequence([space, splitting])
    elif not prefix:
        state = splitting.__getstate__().replace(b'"add_prefix_space":true', b'"add_prefix_space":false')
        splitting.__setstate__(re.sub(rb'"prepend_scheme":"\w+"', b'"prepend_scheme":"never"', state))
        core.pre_tokenizer = splitting
