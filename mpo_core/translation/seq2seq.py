"""Translation models of transformers: NLLB-200, M2M-100, MADLAD-400, Marian."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from mpo_core.contract.artifacts import file_digests, folder_digest
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.translation import Keep, Reply, UnknownLanguageError
from mpo_core.languages.known import engine_code
from mpo_core.models import LOADING, forgetting, local_folder, pick_device
from mpo_core.models.finite import refuse_not_finite
from mpo_core.models.library import reading
from mpo_core.models.load import whole_model
from mpo_core.translation.engines.seq2seq import Seq2SeqSource

_LIMIT = 800
"""Longest piece in characters."""
_FILES = ["*.json", "*.safetensors", "*.model", "*.spm", "*.txt", "README.md"]
# How a mark may be spelled to a model: as its tokenizer gives it back whole.
_SPELLINGS = ("⟦{}⟧", "[{}]", "<{}>", "({})", "#{}#")
_MARK = re.compile(r"⟦(\d{1,3})⟧")
# What Marian's models call languages that our other tables call otherwise (>>cmn_Hans<<, or the config's "ara").
_MARIAN = {"zh": ("cmn_Hans", "zho_Hans", "zho", "cmn"), "ar": ("ara", "arb"), "sw": ("swh", "swa")}
_KNOWN = "Name an NLLB-200, M2M-100, MADLAD-400 or Marian model."
_WANTED = (
    "A folder with config.json, tokenizer files and safetensors is wanted; "
    "Marian and M2M-100 need pip install 'mpo-pipeline[sentencepiece]'."
)


class Seq2SeqBackend:
    """A model folder or hub id as a backend.

    The tokenizer is loaded when a language is asked for, the model at the first piece; both are kept.

    Raises:
        BadInputError: no such model, or its weights are no safetensors.
    """

    limit = _LIMIT
    sentences = True
    """These models were trained on sentences: of a paragraph they may translate the first one only."""

    def __init__(self, settings: Seq2SeqSource) -> None:
        self._settings = settings
        self._folder = _resolve(settings.path, settings.revision)
        self.name = f"seq2seq:{self._folder.name if Path(settings.path).is_dir() else settings.path}"

    @cached_property
    def identity(self) -> str:
        """Whose answers these are: the digest of the model's files, and how it searches."""
        return identity(self._settings)

    @cached_property
    def licence(self) -> str | None:
        """Licence that the model's card names."""
        return licence(self._folder)

    def code(self, language: str) -> str | None:
        """The model's own code for a language; None if it does not know it."""
        return _speech(self._folder).code(language)

    def check(self, source: str, target: str) -> None:
        """Passes if the model goes this way.

        Raises:
            UnknownLanguageError: it knows both languages, but not this direction.
        """
        _speech(self._folder).check(source, target, self.name)

    def translate(self, pieces: Sequence[str], source: str, target: str, keep: Keep) -> dict[str, Reply]:
        """A reply by piece, in batches of similar length.

        Raises:
            BadInputError: the model cannot be loaded.
        """
        s = self._settings
        model = _load(self._folder, s.dtype, pick_device(s.device, where="translation.engines[].device"))
        replies: dict[str, Reply] = {}
        ordered = sorted(pieces, key=len, reverse=True)
        for start in range(0, len(ordered), s.batch_size):
            batch = ordered[start : start + s.batch_size]
            for piece, reply in zip(batch, model.translate(batch, source, target, s), strict=True):
                replies[piece] = reply
                if reply.text is not None:
                    keep(piece, reply.text)
        return replies


def identity(settings: Seq2SeqSource) -> str:
    """Whose answers these are."""
    folder = _resolve(settings.path, settings.revision)
    return f"seq2seq:{_digest(folder)}/{settings.dtype}/{settings.beams}/{settings.max_new_tokens}"


@lru_cache(maxsize=4)
def _digest(folder: Path) -> str:
    return folder_digest(file_digests(folder))


def licence(folder: Path) -> str | None:
    """The licence in the front matter of a model card, if there is one."""
    from huggingface_hub import metadata_load

    try:
        named = (metadata_load(folder / "README.md") or {}).get("license")
    except (OSError, ValueError, yaml.YAMLError):  # no card, or none that can be read
        return None
    return str(named) if named else None


class _Speech:
    """A model's tokenizer: how languages and marks are spelled to it, which is what differs between families."""

    def __init__(self, tokenizer: Any, config: Any, where: str) -> None:
        self.tokenizer = tokenizer
        self.lock = threading.Lock()  # a tokenizer is told the source language by an attribute
        self._family = self._recognised(config, where)
        # Beyond its positions Marian fails, and the others were never trained.
        self.positions = int(getattr(config, "max_position_embeddings", None) or 1 << 20)
        whole = [form for form in _SPELLINGS if form.format(0) in self._round_trip(f"a {form.format(0)} b")]
        self._spellings = whole or [_SPELLINGS[0]]

    def _recognised(self, config: Any, where: str) -> str:
        kind = str(config.model_type)
        if kind == "m2m_100":
            return "m2m100" if self._has("__en__") else "nllb"
        if kind == "marian":
            return "marian"
        if config.is_encoder_decoder and any(re.fullmatch(r"<2\w+>", token) for token in self.tokenizer.get_vocab()):
            return "madlad"
        raise BadInputError(
            f"this is no translation model that is known here (model_type {kind})", where=where, fix=_KNOWN
        )

    def _has(self, token: str) -> bool:
        # M2M-100's languages may be no part of its vocabulary, and yet have numbers.
        return self.tokenizer.convert_tokens_to_ids(token) not in {None, self.tokenizer.unk_token_id}

    def _round_trip(self, text: str) -> str:
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def code(self, language: str) -> str | None:
        """The model's own code; None if its vocabulary has none."""
        if self._family == "marian":
            return self._marian_code(language)
        own = engine_code(language, self._family)
        token = {"nllb": "{}", "m2m100": "__{}__", "madlad": "<2{}>"}[self._family].format(own)
        # MADLAD is not told the source: a language that it can write it can read.
        return own if own is not None and self._has(token) else None

    def _marian_code(self, language: str) -> str | None:
        """A model of one direction knows its two languages; one of many targets has a token for each."""
        flores = engine_code(language, "nllb")
        names = [*_MARIAN.get(language, ()), *([flores, flores.split("_")[0]] if flores else []), language]
        source, target = self.tokenizer.source_lang, self.tokenizer.target_lang
        if source in names:
            return str(source)
        token = next((f">>{name}<<" for name in names if self._has(f">>{name}<<")), None)
        return token or (str(target) if target in names else None)

    def check(self, source: str, target: str, name: str) -> None:
        """Passes if the model goes this way: a Marian model reads one language, and not the ones that it writes.

        Raises:
            UnknownLanguageError: it does not.
        """
        if self._family != "marian":
            return
        reads, writes = self.tokenizer.source_lang, self.tokenizer.target_lang
        can_read = source == reads or (reads == "mul" and source.startswith(">>"))
        if can_read and (target == writes or target.startswith(">>")):
            return
        raise UnknownLanguageError(
            f"the engine {name} translates from {reads!r} into {writes!r}, not from {source!r} into {target!r}",
            where="translation.engines",
            fix="Name another engine.",
        )

    def spelled(self, piece: str) -> tuple[str, Callable[[str], str]]:
        """A piece with its marks as the model knows them, and the way back.

        What looks like such a mark is one only where the piece has that mark: `[1]` may be the text's own.
        """
        numbers = set(_MARK.findall(piece))
        own = _MARK.sub("", piece)
        form = next((form for form in self._spellings if not _reading(form).search(own)), self._spellings[0])

        def back(text: str) -> str:
            return _reading(form).sub(
                lambda match: f"⟦{int(match[1])}⟧" if str(int(match[1])) in numbers else match[0], text
            )

        return _MARK.sub(lambda match: form.format(match[1]), piece), back

    def inputs(self, texts: list[str], source: str, target: str) -> tuple[list[str], dict[str, Any]]:
        """What the tokenizer is given, and what `generate` is told besides; sets the tokenizer's source language."""
        if self._family in {"nllb", "m2m100"}:
            self.tokenizer.src_lang = source
            token = target if self._family == "nllb" else f"__{target}__"
            return texts, {"forced_bos_token_id": self.tokenizer.convert_tokens_to_ids(token)}
        if self._family == "madlad":
            return [f"<2{target}> {text}" for text in texts], {}
        return [f"{target} {text}" for text in texts] if target.startswith(">>") else texts, {}


def _reading(form: str) -> re.Pattern[str]:
    """A mark in this spelling; models put spaces into it."""
    return re.compile(re.escape(form).replace(r"\{\}", r"\s*(\d{1,3})\s*"))


class _Model:
    """A loaded model with its tokenizer."""

    def __init__(self, model: Any, speech: _Speech) -> None:
        self._model, self._speech = model, speech
        # Marian's own setting ends what is cut off as if it were whole.
        model.generation_config.update(max_length=None, forced_eos_token_id=None, num_return_sequences=1)

    def translate(self, pieces: Sequence[str], source: str, target: str, settings: Seq2SeqSource) -> list[Reply]:
        """Pieces of similar length, at once; those beyond the model's length are not given to it."""
        spelled, backs = zip(*map(self._speech.spelled, pieces), strict=True)
        longest = min(self._speech.tokenizer.model_max_length, self._speech.positions)
        with self._speech.lock:
            texts, more = self._speech.inputs(list(spelled), source, target)
            lengths = map(len, self._speech.tokenizer(texts, verbose=False)["input_ids"])
            fits = [length <= longest for length in lengths]
            fitting = [text for text, fit in zip(texts, fits, strict=True) if fit]
            made = iter(self._generated(fitting, more, settings) if fitting else ())
        return [
            _reply(next(made), back) if fit else Reply(None, "too_long") for fit, back in zip(fits, backs, strict=True)
        ]

    def _generated(self, texts: list[str], more: dict[str, Any], settings: Seq2SeqSource) -> Iterator[str | None]:
        """The translations; None for one that did not come to its end."""
        import torch

        tokenizer = self._speech.tokenizer
        with torch.inference_mode():
            made = self._model.generate(
                **tokenizer(texts, return_tensors="pt", padding=True).to(self._model.device),
                **more,
                num_beams=settings.beams,
                do_sample=False,
                max_new_tokens=min(settings.max_new_tokens, self._speech.positions),
            ).cpu()
        made = made[:, 2 if more else 1 :]  # behind the start, and the target's language
        ends = torch.tensor(self._model.generation_config.eos_token_id).flatten()
        whole = torch.isin(made, ends).any(dim=1).tolist()
        translations = tokenizer.batch_decode(made, skip_special_tokens=True)
        return (text if ended else None for text, ended in zip(translations, whole, strict=True))


def _reply(text: str | None, back: Callable[[str], str]) -> Reply:
    return Reply(None, "truncated") if text is None else Reply(back(text).strip())


def _speech(folder: Path) -> _Speech:
    with LOADING:
        return _loaded_speech(folder)


@lru_cache(maxsize=2)
def _loaded_speech(folder: Path) -> _Speech:
    from transformers import AutoConfig, AutoTokenizer

    with _loading(folder), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Recommended: pip install sacremoses")  # it is never asked
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return _Speech(tokenizer, config, _where(folder))


def _load(folder: Path, dtype: str, device: str) -> _Model:
    with LOADING:
        return _loaded_model(folder, dtype, device)


@lru_cache(maxsize=2)  # one that translates, and one that translates back
def _loaded_model(folder: Path, dtype: str, device: str) -> _Model:
    import torch
    from transformers import AutoModelForSeq2SeqLM

    speech = _loaded_speech(folder)
    with _loading(folder):
        model, _ = whole_model(AutoModelForSeq2SeqLM, folder, where=_where(folder), dtype=getattr(torch, dtype))
    refuse_not_finite(model, _where(folder))
    return _Model(model.to(device).eval(), speech)


forgetting.append(_loaded_model.cache_clear)


def _loading(folder: Path) -> AbstractContextManager[None]:
    """Turns whatever a library raises while it loads into one line that the user can act on."""
    return reading("the translation model cannot be loaded", where=_where(folder), fix=_WANTED)


def _where(folder: Path) -> str:
    return f"translation.engines {folder}"


def _resolve(path: str, revision: str | None) -> Path:
    folder = local_folder(path, revision, _FILES, where="translation.engines")
    if not (folder / "config.json").is_file():
        raise BadInputError("config.json is missing", where=_where(folder), fix="Give a Hugging Face model folder.")
    if not any(file.suffix in {".model", ".spm"} or file.name == "tokenizer.json" for file in folder.iterdir()):
        # transformers would make an empty one.
        raise BadInputError("the tokenizer is missing", where=_where(folder), fix=_WANTED)
    if not any(folder.glob("*.safetensors")):
        raise BadInputError(
            "no *.safetensors file, and pickled weights are not read",
            where=_where(folder),
            fix="Save the model as safetensors, or name a `revision` that has them.",
        )
    return folder
