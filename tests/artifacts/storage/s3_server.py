"""An S3-compatible server on loopback (moto), and a store in it, for tests."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import fsspec

if TYPE_CHECKING:
    from moto.server import ThreadedMotoServer

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "1",  # the driver itself asks once: its pauses would be most of a test
}
BUCKET = "artifacts"


@contextmanager
def counted_requests(server: ThreadedMotoServer) -> Iterator[list[str]]:
    """Method and path of every request that the server gets inside the block."""
    requests: list[str] = []
    app = server._server.app

    def counting(environ: dict, start_response: Callable) -> Iterable[bytes]:
        requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        return app(environ, start_response)

    server._server.app = counting
    try:
        yield requests
    finally:
        server._server.app = app


@contextmanager
def s3_bucket() -> Iterator[ThreadedMotoServer]:
    """A running server with an empty bucket; the environment says where, so that `s3://artifacts` is that bucket."""
    import s3fs
    from moto.server import ThreadedMotoServer

    from deploy.local.s3 import OneWinner

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    server._server.app = OneWinner(server._server.app)
    host, port = server.get_host_and_port()
    environment = ENVIRONMENT | {"FSSPEC_S3_ENDPOINT_URL": f"http://{host}:{port}"}
    before, retries = dict(os.environ), s3fs.S3FileSystem.retries
    os.environ.update(environment)
    s3fs.S3FileSystem.retries = 1
    fsspec.config.conf.setdefault("s3", {})["endpoint_url"] = environment["FSSPEC_S3_ENDPOINT_URL"]
    try:
        s3 = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
        if s3.exists(BUCKET):  # moto keeps its buckets in the process
            s3.rm(BUCKET, recursive=True)
        s3.mkdir(BUCKET)
        yield server
    finally:
        fsspec.config.conf.pop("s3", None)
        s3fs.S3FileSystem.retries = retries
        os.environ.clear()
        os.environ.update(before)
        server.stop()
