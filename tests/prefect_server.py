"""A temporary Prefect server for all processes of a test session: prints its address, ends when stdin closes.

It is Prefect's own app on SQLite, except that each write waits for the one before it. By itself Prefect 3.8 begins a
transaction as a read, which SQLite refuses at once to turn into a write if another process has written meanwhile. The
server then answers 503, and the client repeats the call after 2, 4, 8 ... seconds: 46 such pauses were counted in
three minutes of tests of flows.
"""

import os
import socket
import sys
import threading

os.environ |= {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}

import uvicorn
from prefect.server.api.server import create_app
from prefect.server.database.configurations import AioSqliteConfiguration

begin = AioSqliteConfiguration.begin_transaction


def begin_as_write(self, session, with_for_update=True):
    """Takes the lock for writing at the beginning; until it is free, SQLite waits."""
    return begin(self, session, with_for_update=True)


AioSqliteConfiguration.begin_transaction = begin_as_write
with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(), log_level="error", timeout_keep_alive=600))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.05)
    if server.started:
        print(f"http://127.0.0.1:{listener.getsockname()[1]}/api", flush=True)
        sys.stdin.read()
    server.should_exit = True
    thread.join()
