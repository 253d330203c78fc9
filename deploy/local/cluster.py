"""A whole cluster on this machine, on loopback: PostgreSQL, RabbitMQ, an S3 server, three workers, Dagster.

    python deploy/local/cluster.py start | status | stop
    python deploy/local/cluster.py run dagster job launch -w workspace.yaml -j refresh

`INSTSYNTH_PARAMS` at `start` is what every part of it works on; `run` gives a command their environment. State, logs
and generated passwords are below `deploy/local/.state` (`INSTSYNTH_CLUSTER_STATE` names another folder).
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
STATE = Path(os.environ.get("INSTSYNTH_CLUSTER_STATE", Path(__file__).parent / ".state")).resolve()
POSTGRES, BROKER, NAMES, S3, S3_SERVER, UI = 54320, 56720, 56721, 54390, 54391, 3030
"""Ports, all on 127.0.0.1; NAMES is where Erlang's name server listens, S3 the door to S3_SERVER."""

BUCKET = "instsynth"
WORKERS = {"gpu-1": "gpu", "any-2": "gpu,cpu", "jobs-3": "jobs"}
"""Queues of each worker."""


class ClusterError(Exception):
    """One line for the user."""


@dataclass(frozen=True)
class Service:
    """A process of the cluster; `ready` tells when it answers, `stop` is the signal that ends it politely."""

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = PROJECT
    user: str | None = None
    ready: Callable[[], bool] = lambda: True
    stop: signal.Signals = signal.SIGTERM

    def start(self) -> None:
        if log_of(self.name).exists():
            log_of(self.name).replace(log_of(f"{self.name}.previous"))
        with log_of(self.name).open("wb") as log:
            process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=environment() | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=self.user,
                group=self.user and pwd.getpwnam(self.user).pw_gid,
                extra_groups=[] if self.user else None,
            )
        (STATE / "pids" / self.name).write_text(f"{process.pid} {_started(process.pid)}")
        deadline = time.monotonic() + 180
        while not self.ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ClusterError(f"{self.name} did not start; see {log_of(self.name)}")
            time.sleep(0.2)


def services() -> list[Service]:
    """Everything, in the order of starting."""
    postgres = {} if os.getuid() else {"user": "postgres"}
    return [
        Service(
            "postgres",
            [_binary("postgres"), "-D", str(STATE / "postgres"), "-p", str(POSTGRES), "-h", "127.0.0.1", "-k", ""],
            ready=_database_answers,
            stop=signal.SIGINT,
            **postgres,
        ),
        Service("epmd", [_binary("epmd"), "-address", "127.0.0.1", "-port", str(NAMES)], ready=lambda: _open(NAMES)),
        Service("rabbitmq", [_binary("rabbitmq-server")], _rabbit_environment(), ready=lambda: _open(BROKER)),
        Service("s3", _script("s3.py", S3_SERVER), ready=lambda: _open(S3_SERVER)),
        Service("s3-door", _script("s3_door.py", S3, S3_SERVER), ready=lambda: _open(S3)),
        *(worker(name) for name in WORKERS),
        Service(
            "dagster",
            [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "--host", "127.0.0.1", "--port", str(UI)],
            ready=lambda: _open(UI),
        ),
    ]


def worker(name: str) -> Service:
    """A Celery worker in a folder of its own, as if on its own machine: no cache and no relative path is shared."""
    folder = STATE / "machines" / name
    celery = [sys.executable, "-m", "celery", "-A", "jobs.workers.celery_app", "worker", "--loglevel", "INFO"]
    command = [*celery, "--concurrency", "1", "-Q", WORKERS[name], "-n", f"{name}@%h"]
    return Service(f"worker-{name}", command, folder=folder, ready=lambda: _consumes(name))


def start() -> None:
    """Start what does not run; returns when all of it answers."""
    prepare()
    for service in services():
        if not running(service.name):
            service.start()
        print(f"{service.name:16} process {running(service.name)}", flush=True)
        if service.name == "s3-door":
            _make_bucket()
    print(f"Dagster: http://127.0.0.1:{UI}    logs: {log_of('*')}")


def prepare() -> None:
    """Folders, passwords, an empty database and the instance's files, where they are missing."""
    for name in ("pids", "logs", "home", "rabbitmq"):
        (STATE / name).mkdir(parents=True, exist_ok=True)
    if not _secrets_file().exists():
        _secrets_file().touch(mode=0o600)
        words = {name: secrets.token_urlsafe(18) for name in ("POSTGRES", "RABBITMQ", "S3")}
        _secrets_file().write_text("".join(f"{name}={word}\n" for name, word in words.items()))
    for name in WORKERS:
        (STATE / "machines" / name).mkdir(parents=True, exist_ok=True)
        if not (checkpoints := STATE / "machines" / name / "checkpoints").exists():
            checkpoints.symlink_to(PROJECT / "checkpoints")
    (STATE / "params").write_text(str(Path(os.environ.get("INSTSYNTH_PARAMS", PROJECT / "params.yaml")).resolve()))
    shutil.copyfile(PROJECT / "deploy/dagster.yaml", STATE / "home/dagster.yaml")
    rabbit = {
        "listeners.tcp.1": f"127.0.0.1:{BROKER}",
        "default_user": "instsynth",
        "default_pass": passwords()["RABBITMQ"],
        "consumer_timeout": 10**12,  # milliseconds: a training holds its message for as long as it takes
    }
    (STATE / "rabbitmq/rabbitmq.conf").write_text("".join(f"{name} = {value}\n" for name, value in rabbit.items()))
    (STATE / "rabbitmq/plugins").write_text("[].\n")
    if not (STATE / "postgres").exists():
        _make_database()


def stop() -> None:
    """End everything that `start` started, last first."""
    for service in reversed(services()):
        if process := running(service.name):
            end(service.name, service.stop)
            print(f"{service.name:16} process {process} ended")


def end(name: str, polite: signal.Signals) -> None:
    """End a service and the processes that it started, at once after 20 s."""
    process = running(name)
    os.kill(process, polite)
    deadline = time.monotonic() + 20
    while running(name) and time.monotonic() < deadline:
        time.sleep(0.1)
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    (STATE / "pids" / name).unlink()


def status() -> None:
    """What runs, and the last line of each log."""
    for service in services():
        process = running(service.name)
        log = log_of(service.name)
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        print(f"{service.name:16} {f'process {process}' if process else 'down':16} {lines[-1][:120] if lines else ''}")


def run(command: list[str]) -> None:
    """Become a Python command (`dagster job launch ...`) in the project's folder and the cluster's environment."""
    if not running("dagster"):
        raise ClusterError("the cluster does not run; python deploy/local/cluster.py start")
    os.chdir(PROJECT)
    os.execvpe(sys.executable, [sys.executable, "-m", *command], environment())


def running(name: str) -> int:
    """The process of a service, or 0."""
    try:
        process, started = (STATE / "pids" / name).read_text().split()
    except FileNotFoundError:
        return 0
    return int(process) if _started(int(process)) == started else 0


def environment() -> dict[str, str]:
    """What server, daemon, workers and commands of this cluster find in their environment."""
    words = passwords()
    database = f"instsynth:{words['POSTGRES']}@127.0.0.1:{POSTGRES}/instsynth"
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])),
        "PYTHONWARNINGS": "ignore",
        "INSTSYNTH_PARAMS": (STATE / "params").read_text(),
        "DAGSTER_HOME": str(STATE / "home"),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "INSTSYNTH_POSTGRES_HOST": "127.0.0.1",
        "INSTSYNTH_POSTGRES_PORT": str(POSTGRES),
        "INSTSYNTH_POSTGRES_USER": "instsynth",
        "INSTSYNTH_POSTGRES_PASSWORD": words["POSTGRES"],
        "INSTSYNTH_POSTGRES_DB": "instsynth",
        "INSTSYNTH_WEBSERVER": f"http://127.0.0.1:{UI}",
        "INSTSYNTH_BROKER": f"amqp://instsynth:{words['RABBITMQ']}@127.0.0.1:{BROKER}//",
        "INSTSYNTH_RESULTS": f"db+postgresql+psycopg2://{database}",
        "FSSPEC_S3_ENDPOINT_URL": f"http://127.0.0.1:{S3}",
        "AWS_ACCESS_KEY_ID": "instsynth",
        "AWS_SECRET_ACCESS_KEY": words["S3"],
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def passwords() -> dict[str, str]:
    return dict(line.split("=", 1) for line in _secrets_file().read_text().splitlines())


def log_of(name: str) -> Path:
    return STATE / "logs" / f"{name}.log"


def _secrets_file() -> Path:
    return STATE / "secrets"


def _started(process: int) -> str:
    """When a process started, in clock ticks: tells it from a later one with the same number. "" for none."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if stat[0] == "Z" else stat[19]


def _script(name: str, *arguments: int) -> list[str]:
    return [sys.executable, str(Path(__file__).parent / name), *map(str, arguments)]


def _binary(name: str) -> str:
    """Path of a program of PostgreSQL, RabbitMQ or Erlang, where Debian keeps it."""
    places = ["/usr/lib/rabbitmq/bin", *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))]
    found = shutil.which(name, path=os.pathsep.join([*places, os.environ["PATH"]]))
    if not found:
        raise ClusterError(f"no {name} on this machine: apt-get install postgresql rabbitmq-server")
    return found


def _rabbit_environment() -> dict[str, str]:
    home = STATE / "rabbitmq"
    return {
        "HOME": str(home),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(NAMES),
        "RABBITMQ_NODENAME": "instsynth@localhost",
        "RABBITMQ_DIST_PORT": str(NAMES + 1),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(home / "data"),
        "RABBITMQ_LOG_BASE": str(home / "logs"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_PID_FILE": str(home / "pid"),
    }


def _make_database() -> None:
    data, word = STATE / "postgres", STATE / "postgres.password"
    data.mkdir(mode=0o700)
    word.touch(mode=0o600)
    word.write_text(passwords()["POSTGRES"])
    user = None
    if not os.getuid():
        user = "postgres"
        for path in (data, word):
            shutil.chown(path, user, user)
    command = [
        _binary("initdb"),
        "-D",
        str(data),
        "-U",
        "instsynth",
        "-A",
        "scram-sha-256",
        f"--pwfile={word}",
        "-E",
        "UTF8",
    ]
    result = subprocess.run(command, capture_output=True, text=True, user=user, cwd="/", check=False)
    word.unlink()
    if result.returncode:
        data.rmdir()
        raise ClusterError(f"initdb: {result.stderr.strip().splitlines()[-1]}")


def _database_answers() -> bool:
    import psycopg2

    def connect(name: str) -> psycopg2.extensions.connection:
        return psycopg2.connect(
            host="127.0.0.1", port=POSTGRES, user="instsynth", password=passwords()["POSTGRES"], dbname=name
        )

    try:
        connect("instsynth").close()
    except psycopg2.OperationalError as error:
        if "does not exist" not in str(error):
            return False
        server = connect("postgres")
        server.autocommit = True
        server.cursor().execute("CREATE DATABASE instsynth")
        server.close()
    return True


def _consumes(worker: str) -> bool:
    return f"{worker}@" in (text := log_of(f"worker-{worker}").read_text(errors="replace")) and " ready." in text


def _make_bucket() -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{S3}/{BUCKET}", method="PUT")
    urllib.request.urlopen(request, timeout=10).close()


def _open(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def main() -> None:
    commands = {"start": start, "status": status, "stop": stop}
    if sys.argv[1:2] != ["run"] and (len(sys.argv) != 2 or sys.argv[1] not in commands):
        raise SystemExit(__doc__)
    try:
        if sys.argv[1] == "run":
            run(sys.argv[2:])
        commands[sys.argv[1]]()
    except ClusterError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
