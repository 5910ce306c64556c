"""What the server does by itself: it marks dead runs as crashed, and calls a webhook when the gate refuses a model.

    MPO_WEBHOOK=https://… python -m flows.automations

The trigger that starts `realign` for a registered language is part of its deployment: `deployments/prefect.yaml`.
"""

import asyncio
import os
from datetime import timedelta

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events import EventTrigger, Posture
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore
from pydantic import SecretStr

from flows.server import HEARTBEAT

_ENDS = ("Completed", "Failed", "Cancelled", "Crashed")
_HOOK = "mpo-gate-refused"


def zombies() -> AutomationCore:
    """Returns the automation that marks a run as crashed whose heartbeat has stopped, as when its worker was killed."""
    beat = "prefect.flow-run.heartbeat"
    return AutomationCore(
        name="mpo: dead runs -> crashed",
        description="A flow run that has sent no heartbeat for three of its intervals.",
        trigger=EventTrigger(
            after={beat},
            expect={beat, *(f"prefect.flow-run.{end}" for end in _ENDS)},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=3 * HEARTBEAT),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="No heartbeat: its worker is gone.")],
    )


async def refusals(address: str) -> AutomationCore:
    """Returns the automation that calls a webhook when the gate refuses a model; a Prefect block stores its address."""
    block_id = await Webhook(method="POST", url=SecretStr(address)).save(_HOOK, overwrite=True)
    return AutomationCore(
        name="mpo: gate refused -> webhook",
        description="Reports a model that was not promoted.",
        trigger=EventTrigger(
            expect={"mpo.gate.refused"},
            match={"prefect.resource.id": "mpo.run.*"},
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[
            CallWebhook(
                block_document_id=block_id,
                payload='{"run": "{{ event.resource.name }}", "version": "{{ event.payload.version }}", '
                '"reason": {{ event.payload.reason | tojson }}}',
            )
        ],
    )


async def main() -> None:
    """Creates the automations on the server, or replaces those of the same names."""
    automations = [zombies()]
    if address := os.environ.get("MPO_WEBHOOK"):
        automations.append(await refusals(address))
    async with get_client() as client:
        for automation in automations:
            for earlier in await client.read_automations_by_name(automation.name):
                await client.delete_automation(earlier.id)
            await client.create_automation(automation)


if __name__ == "__main__":
    asyncio.run(main())
