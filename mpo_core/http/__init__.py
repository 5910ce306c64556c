"""Requests to services behind a network: bounded in bytes and time, never redirected to another host.

Nothing of a stage is in here: translation engines use it, and so can remote sampling and judges. Names are imported
from its modules: settings need `address` alone, and the command starts fast.
"""
