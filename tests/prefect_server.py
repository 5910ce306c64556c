"""A temporary Prefect server for all processes of a test session: prints its address, ends when stdin closes."""

import sys

from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

with prefect_test_harness(server_startup_timeout=300):
    print(PREFECT_API_URL.value(), flush=True)
    sys.stdin.read()
