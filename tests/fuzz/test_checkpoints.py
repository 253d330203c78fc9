"""Damaged and hostile checkpoint folders, for every loader that a params file can point at one."""

from __future__ import annotations

import json
import pickle
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from instsynth_dagster.artifacts.files import file_sha256
from instsynth_dagster.errors import CheckpointError, UserError
from instsynth_dagster.evaluation.metrics.inception import Inception
from instsynth_dagster.models.digests import PIN, content_digest, write_sums
from instsynth_dagster.models.feature_cache import FeatureCache
from instsynth_dagster.refinement.refiners.segment_anything import SegmentAnything
from instsynth_dagster.settings import BoundarySettings
from tests.fuzz.oracle import outcome
from tests.fuzz.tiny_checkpoints import LOADERS

ODD = (None, -1, 0, 3, 1.5, True, "x", "../x", [], [1, 2], {}, {"a": 1})


class Attack:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (exec, (f"open({str(self.mark)!r}, 'w').close()",))


def code(mark: Path) -> str:
    return f"open({str(mark)!r}, 'w').close()\n"


def files(folder: Path, end: str = "") -> list[Path]:
    return sorted(path for path in folder.rglob(f"*{end}") if path.is_file())


def gone(data, folder: Path, mark: Path) -> None:
    shutil.rmtree(folder)


def empty(data, folder: Path, mark: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def a_file(data, folder: Path, mark: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"PK\x03\x04")


def part_gone(data, folder: Path, mark: Path) -> None:
    data.draw(st.sampled_from(files(folder))).unlink()


def truncated(data, folder: Path, mark: Path) -> None:
    path = data.draw(st.sampled_from(files(folder)))
    path.write_bytes(path.read_bytes()[: data.draw(st.integers(0, 200))])


def garbage(data, folder: Path, mark: Path) -> None:
    data.draw(st.sampled_from(files(folder))).write_bytes(data.draw(st.binary(max_size=40)))


def a_folder(data, folder: Path, mark: Path) -> None:
    path = data.draw(st.sampled_from(files(folder)))
    path.unlink()
    path.mkdir()


def flipped(data, folder: Path, mark: Path) -> None:
    path = data.draw(st.sampled_from(files(folder, ".safetensors")))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, min(400, len(content) - 1)))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)


def odd_config(data, folder: Path, mark: Path) -> None:
    path = data.draw(st.sampled_from([path for path in files(folder, ".json") if "config" in path.name]))
    raw = json.loads(path.read_text())
    key = data.draw(st.sampled_from(sorted(raw)))
    if data.draw(st.booleans()):
        del raw[key]
    else:
        raw[key] = data.draw(st.sampled_from(ODD))
    path.write_text(json.dumps(raw))


def no_config(data, folder: Path, mark: Path) -> None:
    path = data.draw(st.sampled_from(files(folder, ".json")))
    path.write_text(data.draw(st.sampled_from(["", "{", "[]", "null", "5", '"x"', "{}", "[" * 5000])))


def other_architecture(data, folder: Path, mark: Path) -> None:
    kind = data.draw(st.sampled_from(["bert", "clip", "mask2former", "resnet", "no_such_model", ""]))
    for path in files(folder, "/config.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": kind, "architectures": ["X"]}))


def other_tensors(data, folder: Path, mark: Path) -> None:
    path = data.draw(st.sampled_from(files(folder, ".safetensors")))
    tensors = load_file(path)
    name = data.draw(st.sampled_from(sorted(tensors)))
    way = data.draw(st.sampled_from(["gone", "renamed", "longer", "integers", "all gone"]))
    value = tensors.pop(name)
    if way == "renamed":
        tensors["other"] = value
    elif way == "longer":
        tensors[name] = np.zeros((*value.shape, 2), value.dtype)
    elif way == "integers":
        tensors[name] = np.zeros((3,), np.int64)
    elif way == "all gone":
        tensors = {}
    save_file(tensors, path, metadata={"format": "pt"})


def a_pickle_instead(data, folder: Path, mark: Path) -> None:
    for path in files(folder, ".safetensors"):
        stem = "pytorch_model" if path.stem == "model" else path.stem
        evil(data, path.with_name(f"{stem}.bin"), mark)
        path.unlink()


def a_pickle_beside(data, folder: Path, mark: Path) -> None:
    for path in files(folder, ".safetensors"):
        for name in ("pytorch_model.bin", "diffusion_pytorch_model.bin", "model.pt", "training_args.bin"):
            evil(data, path.with_name(name), mark)


def an_adapter(data, folder: Path, mark: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "x"}))
    evil(data, folder / "adapter_model.bin", mark)


def evil(data, path: Path, mark: Path) -> None:
    if data.draw(st.booleans()):
        torch.save({"weight": Attack(mark)}, path)
    else:
        path.write_bytes(pickle.dumps(Attack(mark)))


def own_code(data, folder: Path, mark: Path) -> None:
    """`auto_map` with a module beside it, under a known model type or a new one."""
    known = data.draw(st.booleans())
    names = ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoTokenizer", "AutoProcessor", "AutoImageProcessor")
    for path in files(folder, "config.json"):
        (path.parent / "own.py").write_text(code(mark))
        raw = json.loads(path.read_text()) | {"auto_map": dict.fromkeys(names, "own.Own")}
        path.write_text(json.dumps(raw if known else raw | {"model_type": "own"}))


def own_pipeline(data, folder: Path, mark: Path) -> None:
    """A diffusers folder whose parts, or itself, are of its own code or of any module of the machine."""
    index = folder / "model_index.json"
    raw = json.loads(index.read_text())
    part = data.draw(st.sampled_from(["unet", "vae", "text_encoder", "scheduler", "_class_name", "extra"]))
    (folder / "own.py").write_text(code(mark))
    (folder / "own").mkdir()
    if (folder / part).is_dir():
        (folder / part / "own.py").write_text(code(mark))
    library = data.draw(st.sampled_from(["own", "os", "antigravity", "tests.fuzz", "..own", ""]))
    index.write_text(json.dumps(raw | {part: [library, "Own"]}))


MUTATIONS: tuple[Callable, ...] = (
    gone,
    empty,
    a_file,
    part_gone,
    truncated,
    garbage,
    a_folder,
    flipped,
    odd_config,
    no_config,
    other_architecture,
    other_tensors,
    a_pickle_instead,
    a_pickle_beside,
    an_adapter,
    own_code,
)
HARMLESS = (a_pickle_beside,)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folder and digest of each loader's tiny checkpoint."""
    found = {}
    for name, loader in LOADERS.items():
        folder = loader.save(tmp_path_factory.mktemp(name))
        found[name] = folder, loader.load(str(folder))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", LOADERS)
def test_a_damaged_checkpoint_is_refused_or_loaded_as_it_is(saved, name):
    folder, whole = saved[name]
    loader = LOADERS[name]
    diffusers = [own_pipeline] if (folder / "model_index.json").exists() else []

    @settings(max_examples=14, phases=(Phase.generate,))
    @given(st.data())
    def run(data):
        mutate = data.draw(st.sampled_from([*MUTATIONS, *diffusers]), label="mutation")
        with tempfile.TemporaryDirectory() as place:
            copy, mark = Path(place, "model"), Path(place, "mark")
            shutil.copytree(folder, copy)
            mutate(data, copy, mark)
            found = outcome("checkpoints", lambda: loader.load(str(copy)), str(copy), loader.key)
            assert not mark.exists(), "code of the checkpoint ran"
            if isinstance(found, UserError):
                assert mutate not in HARMLESS
            elif mutate in HARMLESS:
                assert found == whole
            else:
                assert found == loader.load(str(copy)), "weights were made up"

    run()


@pytest.mark.slow
@pytest.mark.parametrize("name", LOADERS)
def test_pickles_are_never_read(saved, name, tmp_path):
    """A folder with pickles in place of its weights is refused, and none of them is run."""
    copy, mark = tmp_path / "model", tmp_path / "mark"
    shutil.copytree(saved[name][0], copy)
    for path in files(copy, ".safetensors"):
        for stem in ("pytorch_model", "diffusion_pytorch_model"):
            torch.save(Attack(mark), path.with_name(f"{stem}.bin"))
        path.unlink()
    found = outcome("checkpoints", lambda: LOADERS[name].load(str(copy)), str(copy), LOADERS[name].key)
    assert isinstance(found, CheckpointError)
    assert not mark.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LOADERS if name not in ("maskdiff", "siseg")])
def test_a_pin_and_a_list_are_kept(saved, name, tmp_path):
    """One changed byte in the values of a tensor, which no loader could notice."""
    copy = tmp_path / "model"
    shutil.copytree(saved[name][0], copy)
    pin = f"{copy}{PIN}{content_digest(copy)}"
    if name not in ("mask2former", "oneformer", "fastinst", "generative", "eomt", "rf_detr"):
        assert LOADERS[name].load(pin) == saved[name][1]
    write_sums(tmp_path)
    for path in files(copy, ".safetensors"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    for source in (pin, str(copy)):
        found = outcome("checkpoints", lambda source=source: _verified_load(name, source), str(copy))
        assert isinstance(found, CheckpointError)


def _verified_load(name: str, source: str) -> str:
    from instsynth_dagster.models.sources import pretrained

    return LOADERS[name].load(pretrained(source)[0])


@pytest.mark.slow
@pytest.mark.parametrize("content", ["pickle", "empty", "garbage", "other", "missing", "folder"])
def test_single_files(tmp_path, content):
    """torch-fidelity's Inception and Segment Anything's checkpoints, the two that are no safetensors."""
    path, mark = tmp_path / "weights.pth", tmp_path / "mark"
    if content == "pickle":
        torch.save({"x": Attack(mark)}, path)
    elif content == "other":
        torch.save({"x": torch.zeros(2)}, path)
    elif content == "folder":
        path.mkdir()
    elif content != "missing":
        path.write_bytes(b"" if content == "empty" else b"\x80\x02garbage")
    cache = FeatureCache(tmp_path / "f.sqlite")
    digest = file_sha256(path) if path.is_file() else "0" * 64
    boundary = BoundarySettings(kind="segment_anything", checkpoint=path, sha256=digest)
    for call in (lambda: Inception(path, cache), lambda: SegmentAnything(boundary, "cpu")):
        assert isinstance(outcome("checkpoints", call, str(path)), CheckpointError)
    assert not mark.exists()


@pytest.mark.parametrize("source", ["/no/such", "../x", "a/b/c", "a b", "~/x", "http://x/y", "a\nb", "@", "x@sha256:0"])
def test_a_source_that_is_neither_folder_nor_id(source):
    for name in ("clip", "backbone", "diffinpainting"):
        loader = LOADERS[name]
        found = outcome("checkpoints", lambda loader=loader: loader.load(source), loader.key, "no such", "missing")
        assert isinstance(found, CheckpointError)
