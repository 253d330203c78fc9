"""Where weights come from: folders, hub ids, pins, mirrors, and torch files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import diffusers
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from instsynth_dagster.artifacts.files import file_sha256
from instsynth_dagster.errors import CheckpointError
from instsynth_dagster.models.conversion import NOTE
from instsynth_dagster.models.digests import weights_digest
from instsynth_dagster.models.references import hub_reference
from instsynth_dagster.models.sources import load_complete_model, load_complete_pipeline, pipeline_index, pretrained
from instsynth_dagster.segmenters.shared.backbones import load_backbone
from instsynth_dagster.settings import GeneratorSettings
from instsynth_dagster.synthesis.generators import load_generator
from tests.tiny_pipelines import save_tiny_clip, save_tiny_gligen, save_tiny_inpainting

SAFETY = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}


def to_torch_files(folder: Path) -> Path:
    """The same checkpoint as repositories of 2023 hold it."""
    for path in folder.rglob("*.safetensors"):
        stem = "pytorch_model" if path.stem == "model" else path.stem
        torch.save(load_file(path), path.with_name(f"{stem}.bin"))
        path.unlink()
    return folder


def to_variant(folder: Path, variant: str = "fp16") -> Path:
    for path in folder.rglob("*.safetensors"):
        halved = {name: value.half() for name, value in load_file(path).items()}
        save_file(halved, path.with_name(f"{path.stem}.{variant}.safetensors"), metadata={"format": "pt"})
        path.unlink()
    return folder


def tiny_resnet(folder: Path) -> Path:
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 4, 8, 8], depths=[1, 1, 1, 1], num_labels=2)
    transformers.ResNetForImageClassification(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["checkpoints/mini-clop", "./x", "../x", "/x", "~/x", "a/b/c", "x/", "a\\b"])
def test_what_is_written_like_a_path_is_never_a_hub_id(name, hub):
    with pytest.raises(CheckpointError, match=r"no such folder$"):
        pretrained(name)
    assert not hub.asked


@pytest.mark.parametrize(("text", "wanted"), [
    ("owner/name", ("owner/name", "main", False, False)),
    ("gpt2@v1", ("gpt2", "v1", False, False)),
    (f"owner/name@{'0' * 40}+convert", ("owner/name", "0" * 40, True, True)),
])  # fmt: skip
def test_a_hub_id_is_read(text, wanted):
    found = hub_reference(text)
    assert (found.name, found.revision, found.pinned, found.convert) == wanted


def test_parts_that_are_never_loaded_are_not_judged(tmp_path):
    model = save_tiny_inpainting(tmp_path)
    index = model / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | SAFETY))
    assert pipeline_index(model)["safety_checker"] == SAFETY["safety_checker"]
    assert (
        load_complete_pipeline(diffusers.StableDiffusionPipeline, str(model), dtype=torch.float32).safety_checker
        is None
    )
    index.write_text(json.dumps(json.loads(index.read_text()) | {"unet": ["stable_diffusion", "UNet"]}))
    with pytest.raises(CheckpointError, match="names unet from 'stable_diffusion', which is not run"):
        pipeline_index(model)


def test_a_hub_id_is_downloaded_once_and_only_what_is_read(tmp_path, hub):
    hub.folders["owner/sd"] = folder = save_tiny_inpainting(tmp_path / "sd")
    (folder / "sd.safetensors").write_bytes(b"a single file of everything")
    shutil.copytree(folder / "vae", folder / "safety_checker")
    name, _ = pretrained("owner/sd", parts=("vae", "scheduler"))
    assert {path.name for path in Path(name).iterdir()} == {"model_index.json", "vae", "scheduler"}
    assert {path.name for path in Path(pretrained("owner/sd")[0]).iterdir()} == {
        *("model_index.json", "vae", "scheduler", "unet", "text_encoder", "tokenizer")
    }
    hub.asked.clear()
    pretrained(f"owner/sd@{hub.commit('owner/sd')}")
    assert not hub.asked


def test_a_tokenizer_comes_without_the_weights_beside_it(tmp_path, hub):
    hub.folders["owner/clip"] = save_tiny_clip(tmp_path / "clip")
    name, _ = pretrained("owner/clip", with_weights=False)
    assert (Path(name) / "tokenizer_config.json").is_file()
    assert not list(Path(name).glob("*.safetensors"))
    assert list(Path(pretrained("owner/clip")[0]).glob("*.safetensors"))


def test_without_a_hub_the_cache_is_enough(tmp_path, hub, monkeypatch):
    hub.folders["owner/net"] = tiny_resnet(tmp_path / "net")
    first = pretrained("owner/net")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert pretrained("owner/net") == first
    with pytest.raises(CheckpointError, match="owner/other: not in the cache, and HF_HUB_OFFLINE forbids"):
        pretrained("owner/other")


@pytest.mark.parametrize(("source", "told"), [
    ("owner/none", "the hub has no such repository"),
    ("owner/net@v9", "the hub has no revision v9"),
    ("owner/closed", "accept its conditions"),
])  # fmt: skip
def test_what_the_hub_refuses_is_told(source, told, tmp_path, hub):
    hub.folders["owner/net"] = hub.folders["owner/closed"] = tiny_resnet(tmp_path / "net")
    hub.gated.add("owner/closed")
    with pytest.raises(CheckpointError, match=told):
        pretrained(source)


def test_torch_files_are_converted_once_where_that_is_asked_for(tmp_path, hub):
    hub.folders["owner/gligen"] = folder = save_tiny_gligen(tmp_path / "gligen")
    settings = {"kind": "gligen", "size": 32, "steps": 2, "batch_size": 1}
    whole = load_generator("a", GeneratorSettings.model_validate({"model": str(folder), **settings}), "cpu")
    to_torch_files(folder)
    with pytest.raises(CheckpointError, match=r"torch files .*write owner/gligen\+convert"):
        pretrained("owner/gligen")
    made = Path(pretrained("owner/gligen+convert")[0])
    assert made.parent == tmp_path / "converted"
    note = json.loads((made / NOTE).read_text())["files"]["unet/diffusion_pytorch_model.bin"]
    assert note["sha256"] == file_sha256(folder / "unet" / "diffusion_pytorch_model.bin")
    assert note["to_sha256"] == file_sha256(made / note["to"])
    stamp = (made / note["to"]).stat().st_mtime_ns
    marked = GeneratorSettings.model_validate({"model": "owner/gligen+convert", **settings})
    assert load_generator("a", marked, "cpu").weights_digest == whole.weights_digest
    assert (made / note["to"]).stat().st_mtime_ns == stamp
    assert pretrained("owner/gligen") == pretrained("owner/gligen+convert"), "converted before: no mark is needed"


def test_a_variant_is_taken_where_a_part_has_it(tmp_path):
    folder = save_tiny_inpainting(tmp_path)
    for part in ("unet", "vae"):
        to_variant(folder / part)
    pipeline = load_complete_pipeline(
        diffusers.StableDiffusionPipeline, str(folder), dtype=torch.float16, variant="fp16"
    )
    assert {part.dtype for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder)} == {torch.float16}
    with pytest.raises((OSError, CheckpointError)):
        load_complete_pipeline(diffusers.StableDiffusionPipeline, str(folder), dtype=torch.float16)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_no_part_of_a_pipeline_is_filled_up_with_random_weights(tmp_path, part, monkeypatch):
    folder = save_tiny_inpainting(tmp_path)
    path = next((folder / part).glob("*.safetensors"))
    tensors = load_file(path)
    lost = sorted(tensors)[-1]
    save_file({name: value for name, value in tensors.items() if name != lost}, path, metadata={"format": "pt"})
    monkeypatch.setattr("logging.root.manager.disable", 100)
    with pytest.raises(ValueError, match="lack"):
        load_complete_pipeline(diffusers.StableDiffusionPipeline, str(folder), dtype=torch.float32)


def test_a_mirror_is_the_same_weights_or_refused(tmp_path, hub):
    model = save_tiny_inpainting(tmp_path / "one")
    shutil.copytree(model, tmp_path / "same")
    shutil.copytree(model, tmp_path / "other")
    unet = "unet/diffusion_pytorch_model.safetensors"
    changed = {name: value + 1 for name, value in load_file(model / unet).items()}
    save_file(changed, tmp_path / "other" / unet, metadata={"format": "pt"})
    hub.folders["owner/same"] = tmp_path / "same"
    values = {"kind": "diffinpainting", "model": str(tmp_path / "gone"), "size": 32, "steps": 2, "batch_size": 1}
    values["weights"] = {unet: file_sha256(model / unet)}

    def load(**changes):
        return load_generator("mine", GeneratorSettings.model_validate(values | changes), "cpu")

    wanted = load(model=str(model)).weights_digest
    for mirror in (str(tmp_path / "same"), "owner/same"):
        assert load(mirrors=[str(tmp_path / "other"), mirror]).weights_digest == wanted
    with pytest.raises(CheckpointError, match=r"other: holds other weights: the sha256 of diffusion_pytorch_model"):
        load(mirrors=[str(tmp_path / "other")])


def test_mirrors_without_a_digest_are_a_settings_error():
    with pytest.raises(ValueError, match="mirrors must be the same weights elsewhere: add weights"):
        GeneratorSettings.model_validate({"kind": "diffinpainting", "model": "a/b", "mirrors": ["c/d"]})


def test_a_backbone_of_torch_files_is_the_same_backbone(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tiny_resnet(tmp_path / "net")
    wanted = weights_digest({"": load_backbone(str(folder))})
    to_torch_files(folder)
    assert weights_digest({"": load_backbone(f"{folder}+convert")}) == wanted


def test_shards_are_converted_with_their_index(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = save_tiny_clip(tmp_path / "clip")
    whole = transformers.CLIPModel.from_pretrained(folder, use_safetensors=True)
    (folder / "model.safetensors").unlink()
    tensors = sorted(whole.state_dict().items())
    names = [f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)]
    halves = dict(zip(names, (tensors[::2], tensors[1::2]), strict=True))
    for name, half in halves.items():
        torch.save(dict(half), folder / name)
    index = {"metadata": {}, "weight_map": {key: name for name, half in halves.items() for key, _ in half}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    made = load_complete_model(transformers.CLIPModel, pretrained(f"{folder}+convert")[0])
    assert weights_digest({"": made}) == weights_digest({"": whole})
