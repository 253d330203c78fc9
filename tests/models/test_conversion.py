"""Torch files become safetensors; whatever else they hold is refused and never run."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from instsynth_dagster.errors import CheckpointError
from instsynth_dagster.models.conversion import main, read_tensors, safe_name, save_tensors


class Attack:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (exec, (f"open({str(self.mark)!r}, 'w').close()",))


@pytest.mark.parametrize("way", ["in a mapping", "bare", "legacy", "plain pickle"])
def test_a_pickle_is_never_executed(tmp_path, way):
    path, mark = tmp_path / "pytorch_model.bin", tmp_path / "mark"
    if way == "plain pickle":
        path.write_bytes(pickle.dumps(Attack(mark)))
    else:
        held = {"weight": Attack(mark)} if way == "in a mapping" else Attack(mark)
        torch.save(held, path, _use_new_zipfile_serialization=way != "legacy")
    with pytest.raises(CheckpointError, match=r"pytorch_model.bin: not a file of tensors only; no code in it was run"):
        read_tensors(path)
    assert not mark.exists()


@pytest.mark.parametrize("held", [[torch.ones(2)], {"a": 1}, torch.ones(2), {"a": {"b": torch.ones(1)}}])
def test_anything_but_named_tensors_is_refused(tmp_path, held):
    torch.save(held, tmp_path / "model.bin")
    with pytest.raises(CheckpointError, match="holds more than named tensors"):
        read_tensors(tmp_path / "model.bin")


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_stay_what_they_are(tmp_path, legacy):
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "tied": base,
        "again": base,
        "view": base[1],
        "turned": base.T,
        "half": base.half(),
        "ids": torch.arange(3),
    }
    torch.save(tensors, tmp_path / "model.bin", _use_new_zipfile_serialization=not legacy)
    save_tensors(read_tensors(tmp_path / "model.bin"), tmp_path / "model.safetensors")
    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


@pytest.mark.parametrize(("name", "wanted"), [
    ("pytorch_model.bin", "model.safetensors"),
    ("unet/diffusion_pytorch_model.fp16.bin", "unet/diffusion_pytorch_model.fp16.safetensors"),
    ("te/pytorch_model.bin.index.json", "te/model.safetensors.index.json"),
    ("pytorch_model-00001-of-00002.bin", "model-00001-of-00002.safetensors"),
])  # fmt: skip
def test_names_are_those_that_the_libraries_look_for(name, wanted):
    assert safe_name(name) == wanted


def test_the_command_ends_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "model").mkdir()
    torch.save({"a": torch.ones(2)}, tmp_path / "model" / "pytorch_model.bin")
    (tmp_path / "model" / "config.json").write_text("{}")
    main([str(tmp_path / "model")])
    assert load_file(Path(capsys.readouterr().out.strip()) / "model.safetensors")["a"].sum() == 2
    with pytest.raises(SystemExit, match=r"error: .*none: no such folder"):
        main([str(tmp_path / "none")])
