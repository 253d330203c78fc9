"""A model hub on loopback that serves folders: as much of the protocol as `huggingface_hub` asks of it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

_LARGE = (".safetensors", ".bin")


class FakeHub:
    """Repositories by name; each has one commit, on the branch main."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.folders: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.asked: list[str] = []

    def commit(self, name: str) -> str:
        return hashlib.sha1(name.encode()).hexdigest()


def _answer(hub: FakeHub, handler: BaseHTTPRequestHandler) -> None:
    path = unquote(urlsplit(handler.path).path).strip("/")
    hub.asked.append(path)
    name = next((name for name in hub.folders if f"{name}/" in f"{path}/"), None)
    if name is None:
        return _send(handler, 404, {"X-Error-Code": "RepoNotFound"})
    revision, _, file = path.partition(f"{name}/")[2].partition("/")[2].partition("/")
    if revision not in ("", "main", hub.commit(name)):
        return _send(handler, 404, {"X-Error-Code": "RevisionNotFound"})
    if path.startswith("api/") and "/tree/" in path:
        return _json(handler, [_entry(hub, name, one) for one in _files(hub, name)])
    if path.startswith("api/"):
        return _json(handler, _info(hub, name))
    if name in hub.gated:
        return _send(handler, 403, {"X-Error-Code": "GatedRepo"})
    content = (hub.folders[name] / file).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return _send(handler, 200, {"X-Repo-Commit": hub.commit(name), "ETag": f'"{digest}"'}, content)


def _files(hub: FakeHub, name: str) -> list[str]:
    root = hub.folders[name]
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def _entry(hub: FakeHub, name: str, file: str) -> dict[str, object]:
    content = (hub.folders[name] / file).read_bytes()
    sha = hashlib.sha256(content).hexdigest()
    entry: dict[str, object] = {"type": "file", "path": file, "rfilename": file, "size": len(content), "oid": sha[:40]}
    if file.endswith(_LARGE):
        entry["lfs"] = {"sha256": sha, "oid": sha, "size": len(content), "pointerSize": 130}
    return entry


def _info(hub: FakeHub, name: str) -> dict[str, object]:
    return {
        "id": name,
        "sha": hub.commit(name),
        "gated": "manual" if name in hub.gated else False,
        "cardData": {"license": "apache-2.0"},
        "siblings": [_entry(hub, name, file) for file in _files(hub, name)],
    }


def _json(handler: BaseHTTPRequestHandler, answer: object) -> None:
    _send(handler, 200, {"Content-Type": "application/json"}, json.dumps(answer).encode())


def _send(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], content: bytes = b"") -> None:
    handler.send_response(status)
    for key, value in headers.items():
        handler.send_header(key, value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(content)


@contextmanager
def serving() -> Iterator[FakeHub]:
    """The hub, on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(hub, self)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub = FakeHub(f"http://127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def no_hub(cache: Path) -> Iterator[None]:
    """`huggingface_hub` with an empty cache and no network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield
