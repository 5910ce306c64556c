"""Packed attention against attention over each sequence by itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mpo_core.training import attention
from mpo_core.training.attention import Segment, packed_attention

SEGMENTS = [Segment(3, 5, 2), Segment(1, 1, 9), Segment(7, 4, 4), Segment(0, 2, 3)]
HEADS, KV_HEADS, WIDTH = 4, 2, 8


def by_itself(query: Tensor, key: Tensor, value: Tensor, window: int | None, softcap: float | None) -> Tensor:
    """[1, T, H, d]: softmax over what each token sees, token by token."""
    key, value = (t.repeat_interleave(HEADS // KV_HEADS, dim=1) for t in (key, value))
    rows, start = [], 0
    for prompt, chosen, rejected in SEGMENTS:
        for place in range(prompt + chosen + rejected):
            own = prompt + chosen if place >= prompt + chosen else prompt  # where the answer begins
            sees = [*range(prompt), *range(own, place + 1)] if place >= prompt else [*range(place + 1)]
            sees = sees if window is None else sees[-window:]
            at = torch.tensor([start + other for other in sees])
            scores = torch.einsum("hd,htd->ht", query[0, :, start + place], key[0, :, at]) * WIDTH**-0.5
            scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
            rows.append(torch.einsum("ht,htd->hd", scores.softmax(-1), value[0, :, at]))
        start += prompt + chosen + rejected
    return torch.stack(rows).unsqueeze(0)


def flash(query: Tensor, key: Tensor, value: Tensor, *bounds: Any, window_size: tuple[int, int], **_: Any) -> Tensor:
    """What `varlen_attn` does, by its documentation: [T, H, d]. Causal attention ends at the last key."""
    queries, keys, *most = bounds
    outputs = []
    for i in range(len(queries) - 1):
        q = query[queries[i] : queries[i + 1]]
        k, v = (t[keys[i] : keys[i + 1]].repeat_interleave(HEADS // KV_HEADS, dim=1) for t in (key, value))
        assert len(q) <= most[0]
        assert len(k) <= most[1]
        back = torch.arange(len(q))[:, None] + len(k) - len(q) - torch.arange(len(k))
        seen = (back >= 0) & ((back <= window_size[0]) | (window_size[0] < 0))
        scores = torch.einsum("qhd,khd->hqk", q, k) * WIDTH**-0.5
        outputs.append(torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, float("-inf")).softmax(-1), v))
    return torch.cat(outputs)


PLAIN = [(None, None), (4, None)]
SOFT_CAPPED = [(None, 2.0), (3, 2.0)]  # no kernel takes these at once
WAYS = {"lengths": PLAIN + SOFT_CAPPED, "similar lengths": PLAIN + SOFT_CAPPED, "at once": PLAIN}


@pytest.mark.parametrize(
    ("way", "window", "softcap"), [(way, *options) for way, allowed in WAYS.items() for options in allowed]
)
def test_each_token_sees_its_own_sequence(
    monkeypatch: pytest.MonkeyPatch, way: str, window: int | None, softcap: float | None
) -> None:
    real = attention._spread
    exact = way == "lengths"
    monkeypatch.setattr(attention, "_spread", lambda segments, device, **_: real(segments, device, exact=exact))
    if way == "at once":  # the kernel itself is tried in test_cuda.py
        monkeypatch.setattr(attention, "_flash_takes", lambda *_: True)
        monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", flash)
    torch.manual_seed(0)
    tokens = sum(map(sum, SEGMENTS))
    heads = (HEADS, KV_HEADS, KV_HEADS)
    inputs = [torch.randn(1, n, tokens, WIDTH, dtype=torch.float64, requires_grad=True) for n in heads]
    factor = torch.randn(1, tokens, HEADS, WIDTH, dtype=torch.float64)

    def outcome(out: Tensor) -> list[Tensor]:
        return [out, *torch.autograd.grad((out * factor).sum(), inputs)]

    options: dict[str, Any] = {"sliding_window": window, "softcap": softcap}
    ours = outcome(packed_attention(None, *inputs, None, segments=SEGMENTS, **options)[0])
    for part, expected in zip(ours, outcome(by_itself(*inputs, window, softcap)), strict=True):
        torch.testing.assert_close(part, expected, rtol=1e-10, atol=1e-12)


def test_similar_lengths_go_together_and_at_most_double() -> None:
    segments = tuple(Segment(10, length, length + 1) for length in (3, 20, 21, 40, 50, 300))
    exact, similar = (attention._spread(segments, torch.device("cpu"), exact=exact) for exact in (True, False))
    assert len(exact.shapes) == 11
    assert [n for n, _ in similar.shapes] == [2, 4, 4, 2]
    assert len(exact.take) < len(similar.take) < 2 * len(exact.take)
