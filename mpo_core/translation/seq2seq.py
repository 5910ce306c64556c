"""Translates with a translation model of transformers: NLLB-200, M2M-100, MADLAD-400 or Marian."""

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
from mpo_core.contract.errors import BadInputError, installation
from mpo_core.contract.translation import Keep, Reply, UnknownLanguageError
from mpo_core.languages.known import engine_code
from mpo_core.models import LOADING, forgetting, local_folder, pick_device
from mpo_core.models.finite import refuse_not_finite
from mpo_core.models.library import reading
from mpo_core.models.load import whole_model
from mpo_core.translation.engines.seq2seq import Seq2SeqSource

_LIMIT = 800
"""Maximum length of a piece in characters."""
_FILES = ["*.json", "*.safetensors", "*.model", "*.spm", "*.txt", "README.md"]
# Spellings of a mark: a model gets the first one that its tokenizer encodes and decodes without loss.
_SPELLINGS = ("⟦{}⟧", "[{}]", "<{}>", "({})", "#{}#")
_MARK = re.compile(r"⟦(\d{1,3})⟧")
# Marian's codes for languages, where they differ from our other tables (>>cmn_Hans<<, or "ara" in its config).
_MARIAN = {"zh": ("cmn_Hans", "zho_Hans", "zho", "cmn"), "ar": ("ara", "arb"), "sw": ("swh", "swa")}
_FIX_FAMILY = "Name an NLLB-200, M2M-100, MADLAD-400 or Marian model."
_FIX_FOLDER = (
    "Give a folder with config.json, tokenizer files and safetensors. "
    f"Marian and M2M-100 also need sentencepiece. {installation('sentencepiece')}"
)


class Seq2SeqBackend:
    """A translation model, from a folder or the hub, as a backend.

    The tokenizer is loaded at the first question about a language, the model at the first piece; both stay loaded.

    Raises:
        BadInputError: there is no such model, or its weights are not safetensors.
    """

    limit = _LIMIT
    sentences = True
    """These models were trained on single sentences, and may translate only the first sentence of a paragraph."""

    def __init__(self, settings: Seq2SeqSource) -> None:
        self._settings = settings
        self._folder = _resolve(settings.path, settings.revision)
        self.name = f"seq2seq:{self._folder.name if Path(settings.path).is_dir() else settings.path}"

    @cached_property
    def identity(self) -> str:
        """The digest of the model's files and the settings of the search, which decide its translations."""
        return identity(self._settings)

    @cached_property
    def licence(self) -> str | None:
        """Licence in the model's card; None without one."""
        return licence(self._folder)

    def code(self, language: str) -> str | None:
        """Returns the model's own code for a language; None if it does not know the language."""
        return _model_tokenizer(self._folder).code(language)

    def check(self, source: str, target: str) -> None:
        """Checks that the model translates from the source language into the target language."""
        _model_tokenizer(self._folder).check(source, target, self.name)

    def translate(self, pieces: Sequence[str], source: str, target: str, keep: Keep) -> dict[str, Reply]:
        """Translates pieces in batches of similar length, and calls `keep` with each translation."""
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
    """Returns the digest of a model's files and the settings of the search, which decide its translations."""
    folder = _resolve(settings.path, settings.revision)
    return f"seq2seq:{_digest(folder)}/{settings.dtype}/{settings.beams}/{settings.max_new_tokens}"


@lru_cache(maxsize=4)
def _digest(folder: Path) -> str:
    return folder_digest(file_digests(folder))


def licence(folder: Path) -> str | None:
    """Returns the licence in the front matter of a model card; None if it has none or cannot be read."""
    from huggingface_hub import metadata_load

    try:
        name = (metadata_load(folder / "README.md") or {}).get("license")
    except (OSError, ValueError, yaml.YAMLError):  # no card, or none that can be read
        return None
    return str(name) if name else None


class _ModelTokenizer:
    """A model's tokenizer, with its family's spelling of languages and marks."""

    def __init__(self, tokenizer: Any, config: Any, where: str) -> None:
        self.tokenizer = tokenizer
        self.lock = threading.Lock()  # the source language is an attribute of the tokenizer
        self._family = self._recognised(config, where)
        # Beyond this number of positions Marian fails, and the other models were not trained.
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
            f"this is not a supported translation model (model_type {kind} in config.json)",
            where=where,
            fix=_FIX_FAMILY,
        )

    def _has(self, token: str) -> bool:
        # M2M-100's language tokens have ids, though its vocabulary may not list them.
        return self.tokenizer.convert_tokens_to_ids(token) not in {None, self.tokenizer.unk_token_id}

    def _round_trip(self, text: str) -> str:
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def code(self, language: str) -> str | None:
        """Returns the model's own code for a language; None if its vocabulary lacks the language."""
        if self._family == "marian":
            return self._marian_code(language)
        own = engine_code(language, self._family)
        token = {"nllb": "{}", "m2m100": "__{}__", "madlad": "<2{}>"}[self._family].format(own)
        # MADLAD gets no source language: it can read every language that it can write.
        return own if own is not None and self._has(token) else None

    def _marian_code(self, language: str) -> str | None:
        """Returns a Marian model's code: of its one source or target language, or the token of one of its targets."""
        flores = engine_code(language, "nllb")
        names = [*_MARIAN.get(language, ()), *([flores, flores.split("_")[0]] if flores else []), language]
        source, target = self.tokenizer.source_lang, self.tokenizer.target_lang
        if source in names:
            return str(source)
        token = next((f">>{name}<<" for name in names if self._has(f">>{name}<<")), None)
        return token or (str(target) if target in names else None)

    def check(self, source: str, target: str, name: str) -> None:
        """Checks that the model translates in this direction; a Marian model cannot translate back.

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
            fix="Name another engine in translation.engines.",
        )

    def spell(self, piece: str) -> tuple[str, Callable[[str], str]]:
        """Returns a piece with its marks in the model's spelling, and a function that restores them in a translation.

        Only marks that the piece has are restored: `[1]` may also be part of the text.
        """
        numbers = set(_MARK.findall(piece))
        own = _MARK.sub("", piece)
        form = next((form for form in self._spellings if not _mark_pattern(form).search(own)), self._spellings[0])

        def restore(text: str) -> str:
            return _mark_pattern(form).sub(
                lambda match: f"⟦{int(match[1])}⟧" if str(int(match[1])) in numbers else match[0], text
            )

        return _MARK.sub(lambda match: form.format(match[1]), piece), restore

    def inputs(self, texts: list[str], source: str, target: str) -> tuple[list[str], dict[str, Any]]:
        """Returns the texts to tokenize and the arguments for `generate`, and sets the tokenizer's source language."""
        if self._family in {"nllb", "m2m100"}:
            self.tokenizer.src_lang = source
            token = target if self._family == "nllb" else f"__{target}__"
            return texts, {"forced_bos_token_id": self.tokenizer.convert_tokens_to_ids(token)}
        if self._family == "madlad":
            return [f"<2{target}> {text}" for text in texts], {}
        return [f"{target} {text}" for text in texts] if target.startswith(">>") else texts, {}


def _mark_pattern(form: str) -> re.Pattern[str]:
    """Returns a pattern for a mark in this spelling, into which models may insert spaces."""
    return re.compile(re.escape(form).replace(r"\{\}", r"\s*(\d{1,3})\s*"))


class _Model:
    """A loaded model with its tokenizer."""

    def __init__(self, model: Any, tokenizer: _ModelTokenizer) -> None:
        self._model, self._tokenizer = model, tokenizer
        # Marian's own setting would add an end token to translations that are cut off.
        model.generation_config.update(max_length=None, forced_eos_token_id=None, num_return_sequences=1)

    def translate(self, pieces: Sequence[str], source: str, target: str, settings: Seq2SeqSource) -> list[Reply]:
        """Translates pieces as one batch; the reply to a piece that is too long for the model is `too_long`."""
        spelled, restorers = zip(*map(self._tokenizer.spell, pieces), strict=True)
        maximum = min(self._tokenizer.tokenizer.model_max_length, self._tokenizer.positions)
        with self._tokenizer.lock:
            texts, arguments = self._tokenizer.inputs(list(spelled), source, target)
            lengths = map(len, self._tokenizer.tokenizer(texts, verbose=False)["input_ids"])
            fits = [length <= maximum for length in lengths]
            fitting = [text for text, fit in zip(texts, fits, strict=True) if fit]
            translations = iter(self._generate(fitting, arguments, settings) if fitting else ())
        return [
            _reply(next(translations), restore) if fit else Reply(None, "too_long")
            for fit, restore in zip(fits, restorers, strict=True)
        ]

    def _generate(self, texts: list[str], arguments: dict[str, Any], settings: Seq2SeqSource) -> Iterator[str | None]:
        """Generates translations; None for one that is cut off at `max_new_tokens`."""
        import torch

        tokenizer = self._tokenizer.tokenizer
        with torch.inference_mode():
            ids = self._model.generate(
                **tokenizer(texts, return_tensors="pt", padding=True).to(self._model.device),
                **arguments,
                num_beams=settings.beams,
                do_sample=False,
                max_new_tokens=min(settings.max_new_tokens, self._tokenizer.positions),
            ).cpu()
        ids = ids[:, 2 if arguments else 1 :]  # without the start token and the target language's
        ends = torch.tensor(self._model.generation_config.eos_token_id).flatten()
        whole = torch.isin(ids, ends).any(dim=1).tolist()
        translations = tokenizer.batch_decode(ids, skip_special_tokens=True)
        return (text if ended else None for text, ended in zip(translations, whole, strict=True))


def _reply(text: str | None, restore: Callable[[str], str]) -> Reply:
    return Reply(None, "truncated") if text is None else Reply(restore(text).strip())


def _model_tokenizer(folder: Path) -> _ModelTokenizer:
    with LOADING:
        return _loaded_tokenizer(folder)


@lru_cache(maxsize=2)
def _loaded_tokenizer(folder: Path) -> _ModelTokenizer:
    from transformers import AutoConfig, AutoTokenizer

    with _loading(folder), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Recommended: pip install sacremoses")  # sacremoses is not used
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        # Not `as_described`: only NLLB's own class puts the source language, its `src_lang`, before a text.
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return _ModelTokenizer(tokenizer, config, _where(folder))


def _load(folder: Path, dtype: str, device: str) -> _Model:
    with LOADING:
        return _loaded_model(folder, dtype, device)


@lru_cache(maxsize=2)  # a model for the translation, and one for the translation back
def _loaded_model(folder: Path, dtype: str, device: str) -> _Model:
    import torch
    from transformers import AutoModelForSeq2SeqLM

    tokenizer = _loaded_tokenizer(folder)
    with _loading(folder):
        model, _ = whole_model(AutoModelForSeq2SeqLM, folder, where=_where(folder), dtype=getattr(torch, dtype))
    refuse_not_finite(model, _where(folder))
    return _Model(model.to(device).eval(), tokenizer)


forgetting.append(_loaded_model.cache_clear)


def _loading(folder: Path) -> AbstractContextManager[None]:
    """Turns whatever a library raises while it loads a model into one message for the user."""
    return reading("the translation model cannot be loaded", where=_where(folder), fix=_FIX_FOLDER)


def _where(folder: Path) -> str:
    return f"translation.engines {folder}"


def _resolve(path: str, revision: str | None) -> Path:
    folder = local_folder(path, revision, _FILES, where="translation.engines")
    if not (folder / "config.json").is_file():
        raise BadInputError("config.json is missing", where=_where(folder), fix="Give a Hugging Face model folder.")
    if not any(file.suffix in {".model", ".spm"} or file.name == "tokenizer.json" for file in folder.iterdir()):
        # Without these files transformers would make an empty tokenizer.
        raise BadInputError("the tokenizer is missing", where=_where(folder), fix=_FIX_FOLDER)
    if not any(folder.glob("*.safetensors")):
        raise BadInputError(
            "the folder holds no *.safetensors file, and pickled weights are not read",
            where=_where(folder),
            fix="Save the model as safetensors, or name a `revision` that has them.",
        )
    return folder
