"""Which checkpoint a training resumes from."""

from __future__ import annotations

import json
from pathlib import Path

from mpo_core.training.callbacks import newest_checkpoint


def test_a_checkpoint_cut_off_is_skipped_and_removed(tmp_path: Path) -> None:
    for step, mark in ((3, True), (12, True), (20, False)):
        path = tmp_path / f"checkpoint-{step}"
        path.mkdir()
        (path / "model.safetensors").write_bytes(b"x" * step)
        if mark:
            (path / "complete.json").write_text(json.dumps({"model.safetensors": step}))
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-12"
    assert not (tmp_path / "checkpoint-20").exists()
    (tmp_path / "checkpoint-12" / "model.safetensors").write_bytes(b"short")
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-3"
    assert newest_checkpoint(tmp_path / "nowhere") is None
