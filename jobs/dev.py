"""Dagster's UI and daemon, and a server for pages that the UI links to, such as the report: `make dev`."""

from __future__ import annotations

import argparse
import mimetypes
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from assets.shared.kept import SERVED_AT
from instsynth_dagster.artifacts.manifest import MANIFEST, Manifest
from instsynth_dagster.artifacts.store import Store, open_store
from instsynth_dagster.errors import UserError
from instsynth_dagster.settings import load_settings
from jobs.session import run_until_stopped

HOST = "127.0.0.1"


def page(store: Store, path: str) -> bytes | None:
    """A file in one of the folders of a finished partition, by its path in the store; None for any other path.

    Raises:
        ConnectionError: the object store does not respond.
    """
    steps = PurePosixPath(path).parts
    if len(steps) < 3 or ".." in steps:
        return None
    partition, name = "/".join(steps[:-2]), "/".join(steps[-2:])
    try:
        manifest = Manifest.from_json(store.storage.read(f"{partition}/{MANIFEST}"))
        kept = {file.path for files in manifest.folders.values() for file in files}
        return store.storage.read(f"{partition}/{name}") if name in kept else None
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


class _Pages(BaseHTTPRequestHandler):
    """Request handler that answers GET with files of the store of the current params file."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).lstrip("/")
        try:
            found = page(open_store(load_settings()), path)
            missing = "no such file in this project's store: it was made again since, or belongs to another project"
        except (UserError, ConnectionError) as error:
            found, missing = None, str(error)
        kind = mimetypes.guess_type(path, strict=False)[0] or "application/octet-stream"
        self.send_response(200 if found is not None else 404)
        self.send_header("Content-Type", kind if found is not None else "text/plain; charset=utf-8")
        self.end_headers()
        self.wfile.write(missing.encode() if found is None else found)

    def log_message(self, *_: object) -> None:
        """Nothing: the terminal is reserved for Dagster's lines."""


@contextmanager
def serving_pages(log: Callable[[str], None], port: int) -> Iterator[None]:
    """Context in which files of the store are served on localhost; a port in use is reported."""
    try:
        server = ThreadingHTTPServer((HOST, port), _Pages)
    except OSError:
        log(f"port {port} is in use: links of the UI to reports and plots lead to the program that uses it")
        yield
        return
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def is_free(port: int) -> bool:
    """Whether a server may listen on a port of localhost."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port))
        except OSError:
            return False
    return True


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.dev",
        description="Dagster's UI and daemon on localhost, and the pages that the UI links to.",
    )
    parser.add_argument("--port", type=int, default=3000, help="of the UI")
    port = parser.parse_args(arguments).port
    if not is_free(port):
        raise SystemExit(f"error: port {port} is in use; end what uses it, or name another one: make dev PORT=<number>")
    dagster = [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "--host", HOST, "--port", str(port)]
    with serving_pages(print, urlsplit(SERVED_AT).port or 0):
        raise SystemExit(run_until_stopped(dagster))


if __name__ == "__main__":
    main()
