"""The figures of two pairs, from which losses are computed by hand."""

from __future__ import annotations

from typing import Any

import torch

from mpo_core.contract.training import Scores


def scores(dtype: torch.dtype = torch.float32, **changes: Any) -> Scores:
    """Two pairs: h(y_w) = 1, -1; h(y_l) = -2, 3; four against two answer tokens, then two against five."""
    lists: dict[str, Any] = {
        "chosen": [-8.0, -5.0],
        "rejected": [-6.0, -10.0],
        "prompt": [0.0, 0.0],
        "chosen_tokens": [4.0, 2.0],
        "rejected_tokens": [2.0, 5.0],
        "beta": [0.5, 0.25],
        "anchor_gap": [0.0, 0.0],
        "reference_chosen": [-9.0, -4.0],
        "reference_rejected": [-4.0, -13.0],
    }
    rest = {"mean_chosen_tokens": 3.0, "mean_prompt_tokens": 0.0, "kl": 0.0}
    figures = {name: torch.tensor(value, dtype=dtype) for name, value in lists.items()}
    tensors = {name: torch.tensor(value, dtype=dtype) for name, value in changes.items() if isinstance(value, list)}
    return Scores(**(figures | rest | changes | tensors))
