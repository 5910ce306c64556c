"""Builds preference pairs from answers and translations, imports, checks and exports them."""

from mpo_core.pairs.audit import FLAWS, audit
from mpo_core.pairs.check import of_languages
from mpo_core.pairs.describe import describe
from mpo_core.pairs.dominant import require_safe_dominant
from mpo_core.pairs.interchange import Imported, export_official, export_trl, import_as_is, import_pairs
from mpo_core.pairs.joined import Joining
from mpo_core.pairs.quotas import surplus, within
from mpo_core.pairs.rank import answer_pairs, ranked
from mpo_core.pairs.sample import flip_answers, sample_pairs, vary_pairs
from mpo_core.pairs.source import source_pairs
from mpo_core.pairs.swaps import find_swaps, settle_swaps
from mpo_core.pairs.target import target_pairs
from mpo_core.pairs.verdicts import confirmed
