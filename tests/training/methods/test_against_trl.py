"""Loss and gradient of an optimiser step against TRL's own trainers, from the same texts on the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

ROWS = 5


def trl_trainer(method: str, policy: Any, reference: Any, texts: list[dict[str, str]], tiny: Any, folder: Path) -> Any:
    """TRL tokenises the texts itself and has all of them in one batch."""
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer
    from trl.experimental.cpo import CPOConfig, CPOTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    common: dict[str, Any] = {
        "output_dir": str(folder),
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": ROWS,
        "remove_unused_columns": False,
    }
    data, tokenizer = Dataset.from_list(texts), tiny.tokenizer()
    if method == "sft":
        data = data.rename_column("chosen", "completion").remove_columns("rejected")
        return SFTTrainer(policy, args=SFTConfig(**common), train_dataset=data, processing_class=tokenizer)
    if method == "kto":
        # Its batch holds all chosen, then all rejected; the answers that it moves on are the previous row's.
        common["per_device_train_batch_size"] = 2 * ROWS
        args = KTOConfig(beta=0.3, desirable_weight=1.5, undesirable_weight=0.7, **common)
        return KTOTrainer(policy, reference, args=args, train_dataset=data, processing_class=tokenizer)
    if method == "orpo":
        args = ORPOConfig(beta=0.3, **common)
        return ORPOTrainer(policy, args=args, train_dataset=data, processing_class=tokenizer)
    if method in ("cpo", "simpo"):
        own = {"cpo_alpha": 0.8} if method == "cpo" else {"loss_type": "simpo", "simpo_gamma": 0.7, "cpo_alpha": 0.0}
        args = CPOConfig(beta=0.3, **own, **common)
        return CPOTrainer(policy, args=args, train_dataset=data, processing_class=tokenizer)
    kind = {"dpo": "sigmoid", "ipo": "ipo", "rdpo": "robust"}[method]
    args = DPOConfig(beta=0.3, loss_type=[kind], label_smoothing=0.2, **common)
    return DPOTrainer(policy, reference, args=args, train_dataset=data, processing_class=tokenizer)


@pytest.mark.parametrize("method", ["sft", "dpo", "ipo", "rdpo", "cpo", "kto", "kto below 0", "orpo", "simpo"])
def test_step_is_trls(method: str, tiny: Any, build_on: Any, measure: Any, tmp_path: Path) -> None:
    reference, policy = tiny.llama(0), tiny.drifted(3 if method == "kto below 0" else 1)
    method, _, below = method.partition(" ")
    rows = tiny.rows(reference, ROWS, beta=0.3)
    texts = [
        dict(zip(("prompt", "chosen", "rejected"), map(tiny.text, row.target), strict=True))
        for row in reversed(rows)  # TRL moves answers to the next row for kto, we to the previous one
    ]
    theirs = trl_trainer(method, policy, reference, texts, tiny, tmp_path)
    expected = theirs.compute_loss(theirs.model, next(iter(theirs.get_train_dataloader())))
    expected.backward()
    if method == "kto":
        assert (theirs._metrics["train"]["kl"][0] == 0) == bool(below)

    own = {
        "rdpo": {"label_smoothing": 0.2},
        "cpo": {"cpo_alpha": 0.8},
        "simpo": {"simpo_gamma": 0.7},
        "kto": {"desirable_weight": 1.5, "undesirable_weight": 0.7},
    }
    changes = {"batch_size": 2, "gradient_accumulation": 3, **own.get(method, {})}
    wanted = {name: parameter.grad.clone() for name, parameter in theirs.model.named_parameters()}
    for layout in ("packed", "padded"):
        ours = build_on(tiny.llama(0), rows, method=method, layout=layout, **changes)
        loss, gradients = measure(ours, policy)
        assert len(ours._step(rows).forwards) > 2  # no cut of the step may show
        assert loss == pytest.approx(expected.item(), rel=1e-6), layout
        for name, gradient in wanted.items():
            scale = float(gradient.abs().max())
            assert torch.allclose(gradients[name], gradient, rtol=0, atol=1e-5 * scale), f"{layout}: {name}"
