"""Tiny models of the architectures that the pipeline serves, and tokenizers with their marks and chat templates."""

from __future__ import annotations

from typing import Any

import torch
import transformers

WINDOW = 6  # shorter than the sequences of the tests
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Gemma2": {
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "final_logit_softcapping": 3.0,
        "attn_logit_softcapping": 2.0,
        "sliding_window": WINDOW,
    },
    "Qwen2": {},
    "Qwen3": {"head_dim": 8},
    "Mistral": {"sliding_window": WINDOW},
    "Phi3": {},
    "Granite": {"logits_scaling": 4.0, "attention_multiplier": 0.3, "residual_multiplier": 0.5},
    "Cohere": {"logit_scale": 0.25},
}
UNPACKABLE = {
    "Falcon": {},  # attention of its own
    "GptOss": {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2},  # attention sinks
    "Nemotron": {},  # keeps the interface's arguments to itself
}


def tiny(name: str, vocabulary: int = 97, **more: Any) -> Any:
    """A model of an architecture with random weights, in evaluation mode."""
    common = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "pad_token_id": 3,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "initializer_range": 0.2,
    }
    extra = (ARCHITECTURES | UNPACKABLE)[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**(common | extra | more))
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    with torch.no_grad():
        for value in model.parameters():  # biases and norms are not left at 0 and 1
            value.add_(torch.randn_like(value), alpha=0.05)
    return model


_IM = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
_IM_OPEN = "{% if add_generation_prompt %}<|im_start|>assistant\n"
_HEADER = "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
CHATS: dict[str, dict[str, Any]] = {
    "Llama": {
        "marks": ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"],
        "template": "{{ bos_token }}{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}"
        "{% endif %}<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ date_string }}\n\n<|eot_id|>"
        "{% for m in messages %}" + _HEADER + "{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    },
    "Gemma2": {
        "marks": ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"],
        "template": "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('none') }}"
        "{% endif %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
        "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    },
    "Qwen2": {
        "marks": ["<|endoftext|>", "<|im_end|>", "<|im_start|>"],
        "template": "{% if messages[0].role != 'system' %}<|im_start|>system\nBe helpful.<|im_end|>\n{% endif %}"
        + _IM
        + _IM_OPEN
        + "{% endif %}",
    },
    "Qwen3": {
        "marks": ["<|endoftext|>", "<|im_end|>", "<|im_start|>"],
        "template": _IM + _IM_OPEN + "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
    },
}
"""By architecture: the control tokens of its family (the first begins a text or pads, the second ends an answer) and a
chat template that frames turns as the family's own does."""


def chat_tokenizer(name: str) -> Any:
    """A tokenizer of bytes with the control tokens and the chat template of a family."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    marks = CHATS[name]["marks"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={symbol: number for number, symbol in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(marks)
    if name in {"Llama", "Gemma2"}:  # these put a token before every text by themselves
        first = (marks[0], core.token_to_id(marks[0]))
        core.post_processor = processors.TemplateProcessing(single=f"{first[0]} $A", special_tokens=[first])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=marks[0],
        eos_token=marks[1],
        pad_token=marks[0],
        additional_special_tokens=marks[2:],
        chat_template=CHATS[name]["template"],
    )
