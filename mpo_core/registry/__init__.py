"""The registry: which models there are, which one is in use, and who decided so, when and why.

The registry is a list of events under `<root>/registry/events/`, one JSON file each, never
changed. Everything else is read from it.
"""

from mpo_core.registry.events import GATE, PIPELINE, Entry
from mpo_core.registry.hub import push
from mpo_core.registry.languages import add_language, registered_languages, remove_language
from mpo_core.registry.registry import evaluated, history, promote, promoted, rollback, versions
from mpo_core.registry.settle import Settled, settle
from mpo_core.registry.state import Version
from mpo_core.registry.work import Need, find_work
