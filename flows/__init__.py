"""The flows and the `mpo` command."""

from mpo_core.contract.own_packages import prefer_own_packages

prefer_own_packages()
