"""Weights that are no numbers are found where a model is loaded, and named."""

from __future__ import annotations

from typing import Any

from mpo_core.contract.errors import BadInputError


def refuse_not_finite(model: Any, where: str) -> None:
    """Refuses a model with a weight that is NaN or infinite: every figure of it would be wrong, or no number.

    Each tensor is read once, where it lies, without a copy. Of weights in four bits the scale is read: it is taken
    over each block, so a NaN shows there.

    Args:
        model: a loaded model of transformers.
        where: names the model in the message.

    Raises:
        BadInputError: names the first such tensor, and how many there are.
    """
    import torch

    named = []
    for name, weight in model.named_parameters():
        state = getattr(weight, "quant_state", None)
        tensors = [weight] if state is None else [state.offset if state.offset is not None else state.absmax]
        for tensor in tensors:
            if tensor.is_floating_point() and tensor.numel() and not tensor.is_meta:
                low, high = torch.aminmax(tensor.detach())
                if not bool(torch.isfinite(low) & torch.isfinite(high)):
                    named.append(name)
    if named:
        more = f", and {len(named) - 1} more" if len(named) > 1 else ""
        raise BadInputError(
            f"the weights hold NaN or infinite numbers (tensor {named[0]}{more})",
            where=where,
            fix="The file is damaged or its training diverged: fetch the model again, or use an earlier checkpoint.",
        )
