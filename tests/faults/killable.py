"""Runs the small pipeline in a process of its own and, if asked, dies by SIGKILL at a task's start.

python -m tests.faults.killable ROOT LEDGER [VERB DELAY_SECONDS]

With FORKED in the environment its training is forked (see tests/forked.py); CHANGES has changed settings, as JSON.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path


def main(root, ledger, verb="", delay="0"):
    import tests.conftest  # noqa: F401 - the hermetic environment
    from flows.full_pipeline import full_pipeline
    from mpo_core.settings.profiles import parse_config
    from tasks.stage import listeners
    from tests.flows.conftest import small_settings
    from tests.session import forked_trainings

    def die():
        time.sleep(float(delay))
        os.kill(os.getpid(), signal.SIGKILL)

    def listen(event):
        if event.kind != "progress":
            with Path(ledger).open("a") as file:
                file.write(f"{event.kind} {event.verb} {event.label}\n")
        # The first step of a training is its checkpoint's time; elsewhere the start is the moment.
        moment = "progress" if verb == "train" else "started"
        if event.verb == verb and event.kind == moment:
            threading.Thread(target=die, daemon=True).start()

    listeners.append(listen)
    with forked_trainings() if "FORKED" in os.environ else contextlib.nullcontext():
        changes = json.loads(os.environ.get("CHANGES", "{}"))
        summary = full_pipeline(parse_config(small_settings(root, **changes), where="test"))
    for ref in summary.artifacts:
        print(ref.path)


if __name__ == "__main__":
    main(*sys.argv[1:])
