"""What tests need of the world: the real server, and servers that play a script."""

from __future__ import annotations

import http.server
import os
import threading
import urllib.request
from collections.abc import Callable

SERVER = os.environ.get("TROUPE_SERVER", "")
CONTROL = os.environ.get("TROUPE_TEST_CONTROL", "")


def control(verb: str) -> None:
    """Do something to the real server: kill it or start it."""
    with urllib.request.urlopen(urllib.request.Request(f"{CONTROL}/{verb}", method="POST"), timeout=300):
        pass


Play = Callable[[http.server.BaseHTTPRequestHandler], None]


class Script:
    """A server whose every request is played by the next of its plays; the last plays all that come after."""

    def __init__(self, *plays: Play) -> None:
        self.requests: list[http.server.BaseHTTPRequestHandler] = []
        lock = threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(handler) -> None:
                with lock:
                    play = plays[min(len(self.requests), len(plays) - 1)]
                    self.requests.append(handler)
                handler.body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
                play(handler)

            do_GET = do_POST = do_DELETE = serve

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Script:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def answer(status: int, body: bytes = b"", **headers: str) -> Play:
    """Answer once, and keep the connection."""

    def play(h: http.server.BaseHTTPRequestHandler) -> None:
        h.send_response(status)
        for name, value in headers.items():
            h.send_header(name.replace("_", "-"), value)
        if status != 204:
            h.send_header("Content-Length", str(len(body)))
        h.end_headers()
        h.wfile.write(body)

    return play


def hang_up(h: http.server.BaseHTTPRequestHandler) -> None:
    """Close the connection without an answer."""
    h.close_connection = True


def stream(*parts: str, broken: bool = False) -> Play:
    """Stream the parts, and end as one does that is complete, or not."""

    def play(h: http.server.BaseHTTPRequestHandler) -> None:
        h.send_response(200)
        h.send_header("Content-Type", "text/event-stream")
        h.send_header("Transfer-Encoding", "chunked")
        h.end_headers()
        for part in parts:
            raw = part.encode()
            h.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))
        if not broken:
            h.wfile.write(b"0\r\n\r\n")
        h.close_connection = True

    return play


def event(cursor: str, state: str = "") -> str:
    """An event as the server sends it: output, or a state."""
    kind, data = ("state", f'{{"state":"{state}"}}') if state else ("output", '{"chunk":1}')
    return f'id: {cursor}\nevent: {kind}\ndata: {{"task":"t","cursor":"{cursor}","type":"{kind}","at":"","data":{data}}}\n\n'
