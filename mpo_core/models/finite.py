"""A check of loaded weights for NaN and infinite numbers."""

from typing import Any

from mpo_core.contract.errors import BadInputError


def refuse_not_finite(model: Any, where: str) -> None:
    """Refuses a model with a weight that is NaN or infinite: every result would be wrong or NaN.

    Each tensor is read once, on its device and without a copy. Of weights in four bits the scale of each block is read,
    which is NaN if one of the block's weights was.

    Raises:
        BadInputError: names the first such tensor, and how many there are.
    """
    import torch

    at_fault = []
    for name, weight in model.named_parameters():
        state = getattr(weight, "quant_state", None)
        tensors = [weight] if state is None else [state.offset if state.offset is not None else state.absmax]
        for tensor in tensors:
            if tensor.is_floating_point() and tensor.numel() and not tensor.is_meta:
                low, high = torch.aminmax(tensor.detach())
                if not bool(torch.isfinite(low) & torch.isfinite(high)):
                    at_fault.append(name)
    if at_fault:
        more = f", and {len(at_fault) - 1} more" if len(at_fault) > 1 else ""
        raise BadInputError(
            f"the weights hold NaN or infinite numbers (tensor {at_fault[0]}{more})",
            where=where,
            fix="The file is damaged or its training diverged: fetch the model again, or use an earlier checkpoint.",
        )
