"""An S3 server in memory (moto), on loopback: `python deploy/local/s3.py PORT`. What it holds ends with it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple


class OneWinner:
    """Conditional writes one after another: moto looks whether an object is there and writes it in two steps."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app, self._writing = app, Lock()

    def __call__(self, request: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        if not {"HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH"} & set(request):
            return self._app(request, respond)
        with self._writing:
            return self._app(request, respond)


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), OneWinner(DomainDispatcherApplication(create_backend_app)), threaded=True)
