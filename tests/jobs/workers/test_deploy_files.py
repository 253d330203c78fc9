"""The deployment's files against the code and the libraries that read them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._config import process_config
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin

from jobs.workers.routing import DEVICE, HOST, JOB, ROUTE, RoutedRunCoordinator

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"


def read(path: str) -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / path).read_text())


@pytest.fixture(autouse=True)
def webserver(monkeypatch):
    monkeypatch.setenv("INSTSYNTH_WEBSERVER", "http://webserver:3000")


def coordinator(config: dict[str, Any]) -> RoutedRunCoordinator:
    result = process_config(RoutedRunCoordinator.config_type(), config)
    assert result.success, result.errors
    assert result.value is not None
    return RoutedRunCoordinator.from_config_value(None, result.value)


def k8s_coordinator() -> RoutedRunCoordinator:
    custom = read("k8s/values.yaml")["dagsterDaemon"]["runCoordinator"]["config"]["customRunCoordinator"]
    assert (custom["module"], custom["class"]) == (RoutedRunCoordinator.__module__, RoutedRunCoordinator.__name__)
    return coordinator(custom["config"])


def variables(node: Any) -> set[str]:
    """Names of the environment variables that a dagster.yaml reads."""
    if isinstance(node, dict):
        own = {node["env"]} if set(node) == {"env"} else set()
        return own.union(*(variables(value) for value in node.values()))
    return set().union(*(variables(value) for value in node)) if isinstance(node, list) else set()


def test_queues_of_the_routes_have_workers_in_compose():
    routes = coordinator(read("dagster.yaml")["run_coordinator"]["config"])
    assert routes.tags(on_device=True) == {ROUTE: DEVICE, "dagster-celery/queue": "gpu"}
    assert routes.tags(on_device=False) == {ROUTE: HOST, "dagster-celery/queue": "cpu"}
    commands = [service.get("command", []) for service in read("compose/compose.yaml")["services"].values()]
    served = {command[command.index("-Q") + 1] for command in commands if "-Q" in command}
    assert served == {DEVICE, HOST, JOB}


def test_launcher_and_storage_read_the_configuration(monkeypatch):
    pytest.importorskip("dagster_celery", reason="pip install -e .[cluster]")
    storage = pytest.importorskip("dagster_postgres", reason="pip install -e .[cluster]").DagsterPostgresStorage
    from jobs.workers.celery_launcher import QueueRunLauncher

    instance = read("dagster.yaml")
    for name in variables(instance):
        monkeypatch.setenv(name, "5432")
    for kind, section in (
        (QueueRunLauncher, instance["run_launcher"]["config"]),
        (storage, instance["storage"]["postgres"]),
    ):
        result = process_config(kind.config_type(), section)
        assert result.success, result.errors


def test_compose_gives_every_variable_that_the_configuration_reads():
    compose = read("compose/compose.yaml")
    given = compose["services"]["daemon"]["environment"]
    assert variables(read("dagster.yaml")) <= set(given)
    asked = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose/compose.yaml").read_text()))
    assert asked == set(re.findall(r"^(\w+)=", (DEPLOY / "compose/.env.example").read_text(), re.MULTILINE))
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert set(compose["volumes"]) == {
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
        if not volume.startswith(".")
    }


def test_a_run_of_a_device_asset_becomes_a_pod_on_the_gpu_pool():
    pytest.importorskip("dagster_k8s", reason="pip install -e .[cluster]")
    from dagster_k8s.job import (
        DagsterK8sJobConfig,
        UserDefinedDagsterK8sConfig,
        construct_dagster_k8s_job,
        get_user_defined_k8s_config,
    )

    every = read("k8s/values.yaml")["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]
    snake = {re.sub("([A-Z])", r"_\1", name).lower(): value for name, value in every.items()}
    assert UserDefinedDagsterK8sConfig.from_dict(snake).to_dict()

    def pod(on_device: bool) -> dict[str, Any]:
        config = get_user_defined_k8s_config(k8s_coordinator().tags(on_device))
        job = construct_dagster_k8s_job(
            DagsterK8sJobConfig(job_image="image", dagster_home="/home"), ["dagster"], "run", config
        )
        return job.to_dict()["spec"]["template"]["spec"]

    gpu, cpu = pod(True), pod(False)
    assert gpu["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert gpu["node_selector"] == {"instsynth/pool": "gpu"}
    assert gpu["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert "nvidia.com/gpu" not in cpu["containers"][0]["resources"]["limits"]
    assert not cpu["node_selector"]


def test_the_image_holds_every_package_and_what_it_copies_exists():
    lines = (DEPLOY / "image/Dockerfile").read_text().splitlines()
    copied = {name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
    assert all((ROOT / name).exists() for name in copied)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert {pattern.rstrip("*") for pattern in packages["find"]["include"]} | {"assets", "jobs", "resources"} <= copied
    let_in = {
        line[1:] for line in (DEPLOY / "image/Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"
    }
    assert let_in == copied


def test_the_lock_agrees_with_the_one_of_the_project_and_names_no_host():
    text = (ROOT / "requirements.cluster.lock").read_text()
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))
    project = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert {name: pins[name] for name in pins.keys() & project.keys()} == {
        name: project[name] for name in pins.keys() & project.keys()
    }
    assert {"dagster-celery", "dagster-k8s", "dagster-postgres", "s3fs"} <= set(pins)
    assert "://" not in text


@pytest.mark.slow
def test_a_run_without_a_route_gets_one_by_the_pool_of_its_assets():
    class Node:
        def __init__(self, pools: set[str]) -> None:
            self.pools = pools

    class Workspace:
        asset_graph = {dg.AssetKey("crops"): Node({"device"}), dg.AssetKey("frames"): Node(set())}  # noqa: RUF012

    def route(*assets: str) -> str:
        with dg.DagsterInstance.ephemeral() as instance:
            routes = coordinator({"routes": {}})
            routes.register_instance(instance)
            run = dg.DagsterRun(
                job_name="__ASSET_JOB",
                asset_selection=frozenset(map(dg.AssetKey, assets)) if assets else None,
                remote_job_origin=RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "all").get_job_origin(
                    "__ASSET_JOB"
                ),
            )
            instance.add_run(run)
            return routes.submit_run(dg.SubmitRunContext(run, Workspace())).tags[ROUTE]  # type: ignore[arg-type]

    assert route("crops", "frames") == DEVICE
    assert route("frames") == HOST
    assert route() == JOB
