"""Which models there are, which one is in use, and who decided so, when and why.

The registry is a list of events under `<root>/registry/events/`, one JSON file each, never
changed. Everything else is read from it.
"""

from mpo_core.registry.events import Entry, Event
from mpo_core.registry.registry import Version, history, promote, promoted, register, rollback, versions

__all__ = ["Entry", "Event", "Version", "history", "promote", "promoted", "register", "rollback", "versions"]
