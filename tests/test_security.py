"""What docs/security.md promises: no pickles, no foreign code, digests, secrets in the environment only, localhost."""

from __future__ import annotations

import ast
import json
import re
import shutil
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
import yaml

from assets import build_assets, build_graph
from instsynth_dagster.definitions import build_definitions
from instsynth_dagster.errors import CheckpointError
from instsynth_dagster.graph.staleness import expected
from instsynth_dagster.models.digests import PIN, SUMS, checkpoint_files, content_digest, verified
from instsynth_dagster.settings import Settings, load_settings
from jobs import dev
from jobs.refresh import refresh
from jobs.workers.runs import InThisProcess
from resources import build_resources
from resources.no_pickles import NoPickles
from tests.instances import migrations_read_once
from tests.settings.test_settings import SHIPPED
from tests.toy_run import raw_settings

ROOT = Path(__file__).parents[1]
ROOMS = ("instsynth_dagster", "assets", "resources", "jobs", "benchmarks")
CODE = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
FORBIDDEN = {
    "eval",
    "exec",
    "__import__",
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.load_all",
    "yaml.unsafe_load",
    "yaml.full_load",
    "tempfile.mktemp",
    "pd.read_pickle",
    "torch.hub.load",
}
WITHOUT_WEIGHTS = re.compile(r"(Tokenizer|Config|Processor|Scheduler)$")


def crimes(source: str) -> list[str]:
    """Calls and imports in a module that load or run what data or the network brought."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [f"import {name}" for name in names if name.split(".")[0] in PICKLES]
        elif isinstance(node, ast.Call):
            found += _crimes_of_call(node)
    return found


def _crimes_of_call(node: ast.Call) -> list[str]:
    name = ast.unparse(node.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg}
    found = [name] if name in FORBIDDEN or name.endswith((".to_pickle", ".read_pickle")) else []
    if name == "torch.load" and given.get("weights_only") != "True":
        found.append("torch.load without weights_only=True")
    if given.get("trust_remote_code", "False") != "False":
        found.append("trust_remote_code")
    if given.get("allow_pickle", "False") != "False" or given.get("shell", "False") != "False":
        found.append(f"{name} with allow_pickle or shell")
    if name.endswith("merge_from_file") and given.get("allow_unsafe") != "False":
        found.append(f"{name} builds Python objects")
    if given.get("verify", "True") == "False":
        found.append(f"{name} without TLS verification")
    if name.endswith(".from_pretrained"):
        owner = name.split(".")[-2]
        if owner.startswith("Auto") and not owner.startswith("Autoencoder") and "trust_remote_code" not in given:
            found.append(f"{name} without trust_remote_code=False")
        safe = given.get("use_safetensors") == "True" or given.get("local_files_only") == "True"
        if not safe and not WITHOUT_WEIGHTS.search(owner) and owner != "kind":
            found.append(f"{name} without use_safetensors")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_loads_or_runs_what_it_should_not(path):
    assert crimes(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "eval(x)",
        "exec(x)",
        "os.system(x)",
        "yaml.load(x, Loader=yaml.Loader)",
        "torch.load(x)",
        "torch.load(x, weights_only=False)",
        "np.load(x, allow_pickle=True)",
        "subprocess.run(x, shell=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=True, use_safetensors=True)",
        "AutoTokenizer.from_pretrained(x)",
        "CLIPModel.from_pretrained(x)",
        "config.merge_from_file(x)",
        "frame.to_pickle(x)",
        "requests.get(x, verify=False)",
    ],
)
def test_the_scan_finds(source):
    assert crimes(source)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_dagster_pickles_nothing(name):
    settings = load_settings(ROOT / name)
    repository = build_definitions(settings, lambda: settings).get_repository_def()
    for job in repository.get_all_jobs():
        for node in job.all_node_defs:
            values = [output.name for output in node.output_defs if not output.dagster_type.is_nothing]
            assert all(name.startswith(f"{node.name}_") for name in values), values  # results of checks, events
    made = build_resources(settings)["io_manager"]
    assert isinstance(made, NoPickles)
    with pytest.raises(TypeError, match="write it to the store"):
        made.handle_output(dg.build_output_context(step_key="x", name="result"), 5)


@pytest.mark.slow
def test_what_a_run_leaves_is_no_pickle(tmp_path):
    """A job through Dagster's own storage: its folder holds events and logs, and no value of an op."""
    raw = raw_settings(tmp_path, tmp_path / "none", generators={}, arms=["zoom_crop"])
    settings = Settings.model_validate(raw)
    definitions = build_definitions(settings, lambda: settings)
    (tmp_path / "home").mkdir()
    with migrations_read_once(), dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        assert definitions.get_job_def("prepare").execute_in_process(instance=instance).success
    values = [path for path in (tmp_path / "home" / "storage").rglob("*") if path.is_file()]
    assert not [path for path in values if "compute_logs" not in path.parts and path.suffix != ".db"]


def test_shipped_checkpoints_are_listed_whole():
    listed = {line[66:]: line[:64] for line in (ROOT / "checkpoints" / SUMS).read_text().splitlines()}
    folders = [path for path in (ROOT / "checkpoints").iterdir() if path.is_dir()]
    assert set(listed) == {f.relative_to(ROOT / "checkpoints").as_posix() for d in folders for f in checkpoint_files(d)}
    for folder in folders:
        assert verified(folder) == folder
        assert not list(folder.rglob("*.bin")) + list(folder.rglob("*.py"))


@pytest.fixture
def shipped(tmp_path) -> Path:
    shutil.copytree(ROOT / "checkpoints" / "mini-clip", tmp_path / "checkpoints" / "mini-clip")
    shutil.copy(ROOT / "checkpoints" / SUMS, tmp_path / "checkpoints")
    return tmp_path / "checkpoints" / "mini-clip"


@pytest.mark.parametrize("way", ["changed", "missing", "added"])
def test_a_shipped_checkpoint_that_is_another_one_is_refused_by_name(shipped, way):
    assert verified(shipped) == shipped
    path = shipped / ("model.safetensors" if way != "added" else "pytorch_model.bin")
    if way == "missing":
        path.unlink()
    else:
        path.write_bytes(b"x")
    with pytest.raises(CheckpointError, match=rf"{path.name}: .*{SUMS}"):
        verified(shipped)


def test_a_card_may_be_edited(shipped):
    (shipped / "README.md").write_text("other words")
    assert verified(shipped) == shipped


def test_a_pin_is_checked(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    pin = f"{tmp_path / 'model'}{PIN}{content_digest(tmp_path / 'model')}"
    assert verified(pin) == tmp_path / "model"
    (tmp_path / "model" / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="does not match the pin"):
        verified(pin)
    with pytest.raises(CheckpointError, match="missing"):
        verified(f"owner/name{PIN}{'0' * 64}")


def crops_fingerprint(root: Path, model: str) -> str:
    settings = Settings.model_validate(raw_settings(root, Path(model)))
    asset = build_graph(settings)["diffinpainting/inpainted_crops"]
    manifest = type("Manifest", (), {"digest": "0" * 64})()
    found = expected(asset, "oakham|car", lambda *_: manifest)
    assert found is not None
    return found.fingerprint


def test_an_overwritten_checkpoint_makes_stale_what_was_made_with_it(tmp_path):
    model = tmp_path / "model" / "unet"
    model.mkdir(parents=True)
    (model / "weights.safetensors").write_bytes(b"one")
    first = crops_fingerprint(tmp_path, str(tmp_path / "model"))
    assert crops_fingerprint(tmp_path, str(tmp_path / "model")) == first
    (model / "weights.safetensors").write_bytes(b"two")
    assert crops_fingerprint(tmp_path, str(tmp_path / "model")) != first
    (model / "weights.safetensors").write_bytes(b"one")
    (tmp_path / "model" / "README.md").write_text("a card")
    assert crops_fingerprint(tmp_path, str(tmp_path / "model")) == first
    hub = crops_fingerprint(tmp_path, "owner/name@0123")
    assert crops_fingerprint(tmp_path, "owner/name@0123") == hub


SECRETS = {
    "HF_TOKEN": "hf_planted0secret1",
    "AWS_ACCESS_KEY_ID": "AKIAPLANTED2SECRET",
    "AWS_SECRET_ACCESS_KEY": "planted3secret/key",
    "FSSPEC_S3_SECRET": "planted4secret",
}


@pytest.mark.slow
def test_a_secret_of_the_environment_is_written_nowhere(tmp_path, monkeypatch, capfd):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    raw = raw_settings(tmp_path, tmp_path / "none", generators={}, arms=["real", "zoom_crop"])
    settings = Settings.model_validate(raw)
    graph, resources = build_graph(settings), build_resources(settings)
    (tmp_path / "home").mkdir()
    with migrations_read_once(), dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        refresh(graph, resources["store"], InThisProcess(build_assets(graph), resources, instance), print)
        events = [str(record) for run in instance.get_runs() for record in instance.all_logs(run.run_id)]
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 20
    texts = [path.read_bytes() for path in written] + ["\n".join(events).encode(), "".join(capfd.readouterr()).encode()]
    texts += [pd.read_parquet(path).to_csv().encode() for path in written if path.suffix == ".parquet"]
    texts += [settings.model_dump_json().encode(), repr(settings).encode()]
    for value in SECRETS.values():
        assert not [text for text in texts if value.encode() in text]


def test_servers_listen_on_localhost():
    """Inside a container a server may listen to all; then its port is published on localhost only."""
    texts = [ROOT / "Makefile", *(path for end in ("yaml", "yml", "sh", "md") for path in ROOT.glob(f"*.{end}"))]
    texts += [path for folder in ("docs", ".ci", "deploy") for path in _files_below(ROOT / folder)]
    started = 0
    for path in texts:
        if path.suffix in (".jpg", ".png", ".lock"):
            continue
        for line in path.read_text(errors="replace").splitlines():
            if re.search(r"dagster dev|dagster-webserver", line) and re.search(r"(^\t|command|exec|CMD)", line):
                started += 1
                assert "127.0.0.1" in line or _in_a_container(path), f"{path}: {line.strip()}"
    assert started
    assert dev.HOST == "127.0.0.1"


def _files_below(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _in_a_container(path: Path) -> bool:
    place = path.relative_to(ROOT)
    return place.parts[0] == "deploy" or "compose" in place.name or "ocker" in place.name


COMPOSE = [*ROOT.glob("*compose*.y*ml"), *(ROOT / "deploy").rglob("compose*.y*ml")]


@pytest.mark.parametrize("path", COMPOSE or [None], ids=str)
def test_ports_of_containers_are_published_on_localhost(path):
    if path is None:
        pytest.skip("no compose file in this checkout")
    for name, service in yaml.safe_load(path.read_text())["services"].items():
        for port in service.get("ports", []):
            published = port if isinstance(port, str) else f"{port.get('host_ip', '')}:{port.get('published')}"
            assert published.startswith("127.0.0.1:"), f"{path}: {name} publishes {json.dumps(port)}"
