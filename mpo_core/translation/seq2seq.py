"""Translation models of transformers: NLLB-200, M2M-100, MADLAD-400, Marian."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from mpo_core.artifacts import file_digests, folder_digest
from mpo_core.errors import BadInputError
from mpo_core.languages import engine_code
from mpo_core.models import pick_device
from mpo_core.settings import Seq2SeqSource
from mpo_core.translation.engines import Reply
from mpo_core.translation.machine import Keep

_LIMIT = 800
"""Longest piece in characters: these models were trained on sentences."""
_FILES = ["*.json", "*.safetensors", "*.model", "*.spm", "*.txt", "README.md"]
# How a mark is spelled to a model: the first that its tokenizer gives back whole.
_SPELLINGS = ("⟦{}⟧", "[{}]", "<{}>", "({})", "#{}#")
_MARK = re.compile(r"⟦(\d{1,3})⟧")
# What Marian's models of many targets call languages that our other tables call otherwise (>>cmn_Hans<<).
_MARIAN = {"zh": ("cmn_Hans", "zho_Hans", "zho", "cmn"), "ar": ("ara", "arb"), "sw": ("swh", "swa")}


class Seq2SeqBackend:
    """A model folder or hub id as a backend; loaded at the first piece, and kept.

    Raises:
        BadInputError: no such model, or its kind is none of the four.
    """

    limit = _LIMIT

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
        return self._loaded.code(language)

    @property
    def _loaded(self) -> _Model:
        s = self._settings
        return _load(self._folder, s.dtype, pick_device(s.device))

    def translate(self, pieces: Sequence[str], source: str, target: str, keep: Keep) -> dict[str, Reply]:
        """A reply by piece, in batches of similar length."""
        replies: dict[str, Reply] = {}
        ordered = sorted(pieces, key=len, reverse=True)
        for start in range(0, len(ordered), self._settings.batch_size):
            batch = ordered[start : start + self._settings.batch_size]
            for piece, reply in zip(batch, self._loaded.translate(batch, source, target, self._settings), strict=True):
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
    card = folder / "README.md"
    if not card.is_file():
        return None
    front = re.match(r"---\s*\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    try:
        named = yaml.safe_load(front.group(1)).get("license") if front else None
    except (yaml.YAMLError, AttributeError):
        return None
    return str(named) if named else None


class _Model:
    """A loaded model with its tokenizer. What differs between families is how languages are named."""

    def __init__(self, model: Any, tokenizer: Any, where: str) -> None:
        self._model, self._tokenizer, self._lock = model, tokenizer, threading.Lock()
        self._vocabulary = tokenizer.get_vocab()
        self._family = self._recognised(where)
        self._spelling = next(
            (form for form in _SPELLINGS if form.format(0) in self._round_trip(f"a {form.format(0)} b")), _SPELLINGS[0]
        )

    def _recognised(self, where: str) -> str:
        kind = str(self._model.config.model_type)
        if kind == "m2m_100":
            return "m2m100" if "__en__" in self._vocabulary else "nllb"
        if kind == "marian":
            return "marian"
        if "<2en>" in self._vocabulary or any(re.fullmatch(r"<2\w+>", token) for token in self._vocabulary):
            return "madlad"
        raise BadInputError(
            f"this is no translation model that is known here (model_type {kind})",
            where=where,
            mend="Name an NLLB-200, M2M-100, MADLAD-400 or Marian model.",
        )

    def _round_trip(self, text: str) -> str:
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def code(self, language: str) -> str | None:
        """The model's own code; None if its vocabulary has none."""
        if self._family == "marian":
            return self._marian_code(language)
        own = engine_code(language, self._family)
        token = {"nllb": "{}", "m2m100": "__{}__", "madlad": "<2{}>"}[self._family].format(own)
        # MADLAD is not told the source: a language that it can write it can read.
        return own if own is not None and token in self._vocabulary else None

    def _marian_code(self, language: str) -> str | None:
        """A model of one direction knows its two languages; one of many targets has a token for each."""
        if language in {self._tokenizer.source_lang, self._tokenizer.target_lang}:
            return language
        names = (language, engine_code(language, "nllb"), *_MARIAN.get(language, ()))
        return next((f">>{name}<<" for name in names if f">>{name}<<" in self._vocabulary), None)

    def translate(self, pieces: Sequence[str], source: str, target: str, settings: Seq2SeqSource) -> list[Reply]:
        """Pieces of similar length, at once."""
        import torch

        spelled = [_MARK.sub(lambda found: self._spelling.format(found.group(1)), piece) for piece in pieces]
        with self._lock, torch.inference_mode():
            inputs, more = self._inputs(spelled, source, target)
            fits = inputs["input_ids"].shape[1] <= min(self._tokenizer.model_max_length, 1 << 20)
            if not fits:
                return [Reply(None, "too_long")] * len(pieces)
            made = self._model.generate(
                **inputs.to(self._model.device),
                **more,
                num_beams=settings.beams,
                do_sample=False,
                max_new_tokens=settings.max_new_tokens,
            )
            texts = self._tokenizer.batch_decode(made, skip_special_tokens=True)
        ends = self._model.generation_config.eos_token_id
        ended = torch.isin(made[:, 1:].cpu(), torch.tensor(ends).flatten()).any(dim=1).tolist()
        back = re.compile(re.escape(self._spelling).replace(r"\{\}", r"\s*(\d{1,3})\s*"))
        return [
            Reply(back.sub(r"⟦\1⟧", text).strip()) if whole else Reply(None, "truncated")
            for text, whole in zip(texts, ended, strict=True)
        ]

    def _inputs(self, texts: list[str], source: str, target: str) -> tuple[Any, dict[str, Any]]:
        more: dict[str, Any] = {}
        tokenizer = self._tokenizer
        if self._family in {"nllb", "m2m100"}:
            tokenizer.src_lang = source
            token = target if self._family == "nllb" else f"__{target}__"
            more["forced_bos_token_id"] = tokenizer.convert_tokens_to_ids(token)
        elif self._family == "madlad":
            texts = [f"<2{target}> {text}" for text in texts]
        elif target.startswith(">>"):
            texts = [f"{target} {text}" for text in texts]
        return tokenizer(texts, return_tensors="pt", padding=True), more


@lru_cache(maxsize=1)
def _load(folder: Path, dtype: str, device: str) -> _Model:
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    where = f"translation.engines {folder}"
    try:
        model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=getattr(torch, dtype), use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, ImportError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise BadInputError(
            f"the translation model cannot be loaded ({type(error).__name__}: {first})",
            where=where,
            mend="A folder with config.json, tokenizer files and safetensors is wanted; "
            "Marian and M2M-100 need pip install 'mpo-pipeline[sentencepiece]'.",
        ) from None
    return _Model(model.to(device).eval(), tokenizer, where)


def _resolve(path: str, revision: str | None) -> Path:
    folder = Path(path)
    if folder.is_dir():
        return folder
    if folder.is_absolute() or path.startswith("."):
        raise BadInputError("no such folder", where=f"translation.engines {path}", mend="Name a folder or a hub id.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(path, revision=revision, allow_patterns=_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise BadInputError(
            f"neither a folder here nor a model that the hub gives ({type(error).__name__})",
            where=f"translation.engines {path}",
            mend="Check the id and the network.",
        ) from None
