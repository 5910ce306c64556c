"""Forks the training process of tests from a process that has imported its libraries already.

They take 6 seconds of CPU to import, longer than the trainings of the tests themselves. Long tests start the real
command (see conftest.py), as do commands that a test runs in a process of its own.

`python tests/forked.py serve SOCKET` is the process to fork from. `python tests/forked.py train SOCKET JOB COUNT`
stands in for `python -m mpo_core.training.child JOB`, and for `accelerate launch` with so many processes that each hold
the whole model: its streams, environment, signals and exit code are those of the training.
"""

import contextlib
import json
import os
import signal
import socket
import sys

MOST_BYTES = 1 << 20


def train(address, job, count):
    """Starts the processes of a training and ends as they end."""
    servers, pids = [], []
    for places in _places(int(count)):
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server.connect(address)
        start = json.dumps([job, dict(os.environ) | places, os.getcwd()]).encode()  # noqa: PTH109 - pathlib takes long
        socket.send_fds(server, [start], [0, 1, 2])
        servers.append(server)
        pids.append(int(server.recv(100)))

    def forward(number, _):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    signal.signal(signal.SIGTERM, forward)
    status = max(int(server.recv(100)) for server in servers)
    if os.WIFSIGNALED(status):
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


def _places(count):
    """What several processes know of each other, as `accelerate launch` lets them know."""
    if count == 1:
        return [{}]
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(some.getsockname()[1]), "WORLD_SIZE": str(count)}
    return [meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def serve(address):
    """Forks trainings until stdin closes, which is when the tests are over."""
    import gc
    import select

    import peft  # noqa: F401
    import torch

    from mpo_core.models import load_model  # noqa: F401
    from mpo_core.training import child, collator, trainer  # noqa: F401

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(address)
        server.listen(100)
        print("ready", flush=True)
        while server in select.select([server, 0], [], [])[0]:
            client, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _start(client)
            client.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    os._exit(0)


def _start(client):
    """Is the parent of a single training: it reports its process id and how it ended."""
    start, streams, _, _ = socket.recv_fds(client, MOST_BYTES, 3)
    pid = os.fork()
    if pid == 0:
        client.close()
        _train(*json.loads(start), streams)
    for stream in (0, 1, *streams):
        os.close(stream)
    client.send(str(pid).encode())
    client.send(str(os.waitpid(pid, 0)[1]).encode())
    os._exit(0)


def _train(job, environment, folder, streams):
    from pathlib import Path

    from mpo_core.training.child import main

    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    code = 1
    try:
        code = main(Path(job))
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    {"serve": serve, "train": train}[sys.argv[1]](*sys.argv[2:])
