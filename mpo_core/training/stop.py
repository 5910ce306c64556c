"""A request to stop a training, which may come as a signal."""

from __future__ import annotations

import signal
from typing import Any

import torch


class Stop:
    """After SIGTERM the step in progress is finished, logged and saved; then training ends, in every process."""

    def __init__(self) -> None:
        self.requested = False

    def listen(self) -> None:
        """Handles SIGTERM from now on; call it in the main thread."""
        signal.signal(signal.SIGTERM, lambda _signum, _frame: self.request())

    def request(self) -> None:
        """Requests the stop."""
        self.requested = True

    def requested_anywhere(self, accelerator: Any) -> bool:
        """Says whether a stop was requested in any process; each of them calls this after the same step."""
        if accelerator.num_processes > 1:
            # The signal reaches them in different steps, and whoever went on alone would wait for ever.
            mine = torch.tensor(float(self.requested), device=accelerator.device)
            self.requested = bool(accelerator.reduce(mine, "sum") > 0)
        return self.requested
