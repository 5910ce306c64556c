"""An OpenAI-compatible server that answers with the name of its model's folder: `small_server.py MODEL PORT [HOW]`.

HOW is `fails` (ends at once), `hangs` (never ready), or `dies` (ends at its first request).
"""

import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    """Answers every conversation."""

    def do_GET(self):
        self._reply({"status": "ok"})

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if HOW == "dies":
            os._exit(3)
        text = f"{Path(MODEL).name} {request['model'] == MODEL}"
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        self._reply({"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})

    def _reply(self, data):
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Listener(ThreadingHTTPServer):
    """Takes many connections at once."""

    request_queue_size = 128


if __name__ == "__main__":
    MODEL, PORT, HOW = sys.argv[1], int(sys.argv[2]), (sys.argv[3:] or [""])[0]
    if HOW == "fails":
        sys.exit("no such device")
    if HOW == "hangs":
        time.sleep(600)
    # A process of its own, as the engines of real servers have: it has to end, too.
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(f"child {child.pid}", flush=True)
    Listener(("127.0.0.1", PORT), Handler).serve_forever()
