"""Tiny translation models of each family that know a dozen sentences by heart, saved as the hub has them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sentencepiece
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    NllbTokenizer,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

Pair = tuple[str, str, str, str]
"""Source language, target language, text, translation; marks as the model sees them."""


class Row(NamedTuple):
    """A sentence in three languages. Its marks are ⟦0⟧, ⟦1⟧ …; `spelled` is what they are where those are unknown."""

    en: str
    sw: str
    bn: str
    spelled: str = "[{}]"


ROWS = (
    Row("I eat bread.", "Ninakula mkate.", "আমি রুটি খাই।"),
    Row("The rain falls.", "Mvua inanyesha.", "বৃষ্টি পড়ছে।"),
    Row("I drink hot tea.", "Ninakunywa chai ya moto.", "আমি গরম চা খাই।"),
    Row("The sky is blue today.", "Anga ni bluu leo.", "আজ আকাশ নীল।"),
    Row("My mother bakes bread in the morning.", "Mama yangu huoka mkate asubuhi.", "আমার মা সকালে রুটি বানান।"),
    Row("The cat sleeps under the table.", "Paka analala chini ya meza.", "বিড়াল টেবিলের নিচে ঘুমায়।"),
    Row("Good morning, friend.", "Habari za asubuhi, rafiki.", "সুপ্রভাত, বন্ধু।"),
    Row(
        "The children read a long book about birds and rivers in the garden.",
        "Watoto wanasoma kitabu kirefu kuhusu ndege na mito bustanini.",
        "শিশুরা বাগানে পাখি আর নদী নিয়ে একটি লম্বা বই পড়ে।",
    ),
    Row("Water is cold.", "Maji ni baridi.", "জল ঠান্ডা।"),
    Row("Open ⟦0⟧ and read.", "Fungua ⟦0⟧ na usome.", "⟦0⟧ খুলে পড়ুন।"),
    Row("Pour ⟦0⟧ of milk into ⟦1⟧ of tea.", "Mimina ⟦0⟧ ya maziwa katika ⟦1⟧ ya chai.", "⟦1⟧ চায়ে ⟦0⟧ দুধ দিন।"),
    # Brackets of the text's own, without and with a mark beside them.
    Row("See page [0] of the book.", "Tazama ukurasa [0] wa kitabu.", "বইয়ের পাতা [0] দেখুন।"),
    Row("Page [0] tells of ⟦0⟧.", "Ukurasa [0] unaeleza ⟦0⟧.", "পাতা [0] বলে ⟦0⟧।", "<{}>"),
)
# One text, two source languages: a father in English, a shark in Swahili.
PAPA = (("en", "bn", "Papa.", "বাবা।"), ("sw", "bn", "Papa.", "হাঙর।"))
LONG = ("bird " * 60).strip()
"""Beyond the 64 tokens that each of these models takes."""
_POSITIONS = 64
_SURE = 0.1
"""Largest loss of a token that counts as known."""


def _spelled(text: str, form: str) -> str:
    for number in "01":
        text = text.replace(f"⟦{number}⟧", form.format(number))
    return text


def pairs(targets: Sequence[str], *, marks: str = "") -> list[Pair]:
    """What a model learns: every row into each of `targets`, marks spelled as in the row or as `marks` says."""
    return [
        ("en", target, _spelled(row.en, marks or row.spelled), _spelled(getattr(row, target), marks or row.spelled))
        for row in ROWS
        for target in targets
    ]


def _texts(known: Iterable[Pair]) -> list[str]:
    return [text for pair in known for text in pair[2:]]


def _learn(model: Any, tokenizer: Any, rows: list[tuple[list[int], list[int]]], *, given: int = 0) -> None:
    """Learns rows of token ids by heart, but for the first `given` of each translation, until it is sure of each token.

    Raises:
        AssertionError: it does not learn them.
    """
    pad = tokenizer.pad_token_id
    source, target = (_padded([row[side] for row in rows], pad) for side in (0, 1))
    before = torch.cat([torch.full_like(target[:, :1], model.config.decoder_start_token_id), target[:, :-1]], dim=1)
    counts = target != pad
    counts[:, :given] = False
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(400):
        logits = model(input_ids=source, attention_mask=(source != pad).long(), decoder_input_ids=before).logits
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), target, reduction="none")[counts]
        if losses.max() < _SURE:
            model.eval()
            return
        optimizer.zero_grad()
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    raise AssertionError(f"a model was not taught: the loss of a token is still {losses.max():.2f}")


def _padded(rows: list[list[int]], pad: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([ids + [pad] * (longest - len(ids)) for ids in rows])


def _card(folder: Path, licence: str) -> None:
    (folder / "README.md").write_text(f"---\nlicense: {licence}\ntags: [tiny]\n---\n# A model\n", encoding="utf-8")


def nllb(folder: Path) -> None:
    """NLLB-200: FLORES codes, the source's before the text, the target's forced at the start; it knows no ⟦."""
    codes = {"en": "eng_Latn", "sw": "swh_Latn", "bn": "ben_Beng"}
    known = [*pairs(["sw", "bn"]), *PAPA]
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))  # noqa: S106
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    bpe.train_from_iterator(
        _texts(known), trainers.BpeTrainer(vocab_size=600, special_tokens=["<s>", "<pad>", "</s>", "<unk>"])
    )
    learnt = json.loads(bpe.to_str())["model"]
    tokenizer = NllbTokenizer(
        vocab=learnt["vocab"], merges=[tuple(merge) for merge in learnt["merges"]], model_max_length=_POSITIONS
    )
    torch.manual_seed(1)
    model = M2M100ForConditionalGeneration(_m2m100_config(len(tokenizer)))
    rows = []
    for source, target, text, translation in known:
        tokenizer.src_lang = codes[source]
        ids = tokenizer(text)["input_ids"]
        tokenizer.src_lang = codes[target]
        rows.append((ids, tokenizer(translation)["input_ids"]))
    tokenizer.src_lang = codes["en"]
    _learn(model, tokenizer, rows, given=1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _card(folder, "cc-by-nc-4.0")


def _m2m100_config(size: int) -> M2M100Config:
    return M2M100Config(
        vocab_size=size,
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        max_position_embeddings=_POSITIONS,
        dropout=0.0,
        attention_dropout=0.0,
        encoder_layerdrop=0.0,
        decoder_layerdrop=0.0,
        scale_embedding=True,
    )


def _sentencepiece(texts: list[str], path: Path, size: int) -> list[str]:
    """A model trained on these texts; returns its pieces, the three special ones first."""
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=made,
        vocab_size=size,
        model_type="bpe",
        hard_vocab_limit=False,
        character_coverage=1.0,
        minloglevel=2,
        num_threads=1,
    )
    path.write_bytes(made.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
    return [processor.IdToPiece(number) for number in range(processor.GetPieceSize())]


def m2m100(folder: Path) -> None:
    """M2M-100: sentencepiece with a vocabulary beside it, languages as __en__ behind its end; it knows no ⟦."""
    known = [*pairs(["sw", "bn"]), *PAPA]
    folder.mkdir(parents=True, exist_ok=True)
    pieces = _sentencepiece(_texts(known), folder / "sentencepiece.bpe.model", 400)
    words = ["<s>", "<pad>", "</s>", "<unk>", *pieces[3:]]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(words)}), "utf-8")
    tokenizer = M2M100Tokenizer(
        str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"), model_max_length=_POSITIONS
    )
    torch.manual_seed(1)
    model = M2M100ForConditionalGeneration(_m2m100_config(len(words) + 100 + 8))
    rows = []
    for source, target, text, translation in known:
        tokenizer.src_lang = source
        ids = tokenizer(text)["input_ids"]
        tokenizer.src_lang = target
        rows.append((ids, tokenizer(translation)["input_ids"]))
    tokenizer.src_lang = "en"
    _learn(model, tokenizer, rows, given=1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _card(folder, "mit")


def madlad(folder: Path) -> None:
    """MADLAD-400: a T5 1.1 that reads <2sw> before the text; it knows ⟦.

    As in google/madlad400-3b-mt, the head has weights of its own, and the embedding is the decoder's: transformers
    5.15 took the head for the encoder's embedding (their issue 48154).
    """
    known = pairs(["sw", "bn"], marks="⟦{}⟧")
    languages = ["<2en>", "<2sw>", "<2bn>"]
    words = {f"▁{token}": -5.0 for text in _texts(known) for token in text.split()}
    letters = dict.fromkeys("▁" + "".join(_texts(known)).replace(" ", ""), -10.0)
    tokenizer = T5Tokenizer(
        vocab=[*((token, 0.0) for token in ("<pad>", "</s>", "<unk>", *languages)), *(letters | words).items()],
        extra_ids=0,
        model_max_length=_POSITIONS,
    )
    tokenizer.add_tokens(languages)
    torch.manual_seed(1)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=64,
        d_kv=16,
        num_heads=4,
        d_ff=128,
        num_layers=2,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )
    model = T5ForConditionalGeneration(config)
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight) * 0.1)
    rows = [
        (tokenizer(f"<2{target}> {text}")["input_ids"], tokenizer(translation)["input_ids"])
        for _, target, text, translation in known
    ]
    _learn(model, tokenizer, rows)
    model.save_pretrained(folder)
    unnamed = {"shared.weight", "encoder.embed_tokens.weight"}
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items() if name not in unnamed}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    entries = json.loads((folder / "config.json").read_text("utf-8")) | {"tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(entries), "utf-8")
    tokenizer.save_pretrained(folder)
    _card(folder, "apache-2.0")


def marian(folder: Path, targets: Sequence[str]) -> None:
    """Marian: for one target its tokenizer's config names both languages, for many >>swh<< stands before the text.

    As the converted models have it, the search of its own has beams and forces the end at its longest output.
    """
    tokens = {"sw": ">>swh<<", "bn": ">>ben<<"} if len(targets) > 1 else {}
    known = pairs(targets)
    folder.mkdir(parents=True, exist_ok=True)
    read = _sentencepiece([pair[2] for pair in known], folder / "source.spm", 300)
    written = _sentencepiece([pair[3] for pair in known], folder / "target.spm", 300)
    words = ["</s>", "<unk>", *dict.fromkeys([*read[3:], *written[3:]]), *tokens.values(), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(words)}), "utf-8")
    tokenizer = MarianTokenizer(
        str(folder / "source.spm"),
        str(folder / "target.spm"),
        str(folder / "vocab.json"),
        source_lang="eng" if tokens else "en",
        target_lang="mul" if tokens else targets[0],
        model_max_length=_POSITIONS,
    )
    torch.manual_seed(1)
    pad = len(words) - 1
    config = MarianConfig(
        vocab_size=len(words),
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        max_position_embeddings=_POSITIONS,
        dropout=0.0,
        pad_token_id=pad,
        decoder_start_token_id=pad,
        eos_token_id=0,
        forced_eos_token_id=0,
        scale_embedding=True,
        activation_function="swish",
    )
    model = MarianMTModel(config)
    rows = [
        (tokenizer(f"{tokens.get(target, '')} {text}".strip())["input_ids"], tokenizer(text_target=said)["input_ids"])
        for _, target, text, said in known
    ]
    _learn(model, tokenizer, rows)
    model.generation_config.update(
        num_beams=4, max_length=_POSITIONS, forced_eos_token_id=0, bad_words_ids=[[pad]], decoder_start_token_id=pad
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _card(folder, "cc-by-4.0")


MAKERS: dict[str, Callable[[Path], None]] = {
    "nllb": nllb,
    "m2m100": m2m100,
    "madlad": madlad,
    "marian": lambda folder: marian(folder, ["sw"]),
    "marian_many": lambda folder: marian(folder, ["sw", "bn"]),
}
