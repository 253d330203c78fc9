"""An examination finds what a run would end with, and says what it cannot know."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from instsynth_dagster.artifacts.files import file_sha256
from instsynth_dagster.data.formats.cityscapes import write_frame
from instsynth_dagster.doctor import examine, examine_thoroughly, problems
from instsynth_dagster.doctor.dataset import DatasetFacts
from instsynth_dagster.doctor.estimate import Work, disk_needs, selected, work, work_findings
from instsynth_dagster.doctor.findings import duration
from instsynth_dagster.doctor.models import examine_fid, examine_models
from instsynth_dagster.errors import SettingsError
from instsynth_dagster.evaluation.metrics.inception import published_file
from instsynth_dagster.models.conversion import converted
from instsynth_dagster.settings import Settings
from jobs.doctor import main
from tests.models.conftest import hub  # noqa: F401
from tests.models.test_sources import to_torch_files
from tests.tiny_pipelines import save_tiny_clip, save_tiny_gligen, save_tiny_guided, save_tiny_inpainting


@pytest.fixture
def root(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for index in range(3):
        ids = np.full((64, 128), 7, np.int32)
        ids[8:24, 8:40], ids[30:50, 60:90], ids[2:6, 2:6] = 26000, 24001, 26
        image = rng.integers(0, 256, (64, 128, 3), dtype=np.uint8)
        write_frame(tmp_path / "data", "train", f"ulm_000000_00000{index}", image, ids)
    return tmp_path / "data"


def settings(root: Path, model: str, **changes) -> Settings:
    generator = {"kind": "diffinpainting", "model": model, "size": 32, "steps": 2, "batch_size": 1}
    raw = {
        "artifacts": {"root": str(root.parent / "artifacts"), "exports": str(root.parent / "exports")},
        "dataset": {"root": str(root), "train_cities": ["ulm"]},
        "classes": ["car", "person"],
        "prompts": {"car": {"templates": ["a photo of a car"]}, "person": {"templates": ["a photo of a person"]}},
        "generators": {"mine": generator | changes.pop("generator", {})},
        "selection": {"policy": "paper", "k": 2},
        "arms": ["real", "zoom_crop", "mine"],
    }
    return Settings.model_validate(raw | changes)


def told(settings: Settings) -> list[str]:
    return [finding.text for finding in problems(examine(settings))]


def test_nothing_is_wrong_with_what_is_right(root, tmp_path):
    found = examine(settings(root, str(save_tiny_inpainting(tmp_path / "sd"))))
    assert not problems(found)
    assert any("3 train frames" in finding.text for finding in found)


def test_a_missing_root_is_a_problem(tmp_path):
    model = str(save_tiny_inpainting(tmp_path / "sd"))
    assert told(settings(tmp_path / "none", model))[0].startswith(str(tmp_path / "none"))


def test_a_missing_model_folder_is_a_problem(root):
    (line,) = told(settings(root, "checkpoints/mini-sd-impaint"))
    assert line.startswith("generators.mine.model: nothing could be loaded; tried checkpoints/mini-sd-impaint: no such")


def test_a_folder_that_is_no_pipeline_is_told_in_words(root, tmp_path):
    (tmp_path / "leer").mkdir()
    tried = f"generators.mine.model: nothing could be loaded; tried {tmp_path / 'leer'}: "
    assert told(settings(root, str(tmp_path / "leer"))) == [
        f"{tried}holds no weights that are known here",
        f"{tried}no model_index.json in it, so it is no pipeline of diffusers",
    ]


def test_a_missing_trained_segmenter_of_ones_own_is_a_problem(root, tmp_path):
    model = str(save_tiny_inpainting(tmp_path / "sd"))
    architecture = {"semantics": {"kind": "mask2former"}, "trained_semantics": "runs/mine"}
    semantics = {"segmenter": {"kind": "siseg", "architecture": architecture}, "cities": ["ulm"]}
    assert told(settings(root, model, semantics=semantics)) == [
        "semantics.segmenter.architecture.trained_semantics: runs/mine: no such folder"
    ]


def test_a_template_that_a_run_refuses_is_a_problem(root, tmp_path, monkeypatch):
    def refuse(name, _):
        raise SettingsError(f"prompts.{name}: no")

    monkeypatch.setattr("instsynth_dagster.synthesis.prompts.prompt_bank", refuse)
    given = settings(root, str(save_tiny_inpainting(tmp_path / "sd")))
    assert told(given) == ["prompts.car: no", "prompts.person: no"]


def test_a_size_that_does_not_fit_is_a_problem(root, tmp_path):
    model = str(save_tiny_inpainting(tmp_path / "sd"))
    assert told(settings(root, model, generator={"size": 30})) == [
        "generators.mine.size: this model needs multiples of 4 pixels, got 30; the nearest is 32"
    ]


@pytest.mark.parametrize(("kind", "save", "line"), [
    ("diffinpainting", lambda place: save_tiny_inpainting(place, 4), "its UNet takes 4 channels, needed are 9"),
    ("gligen", save_tiny_inpainting, "its UNet has no grounding"),
])  # fmt: skip
def test_a_checkpoint_of_another_kind_is_a_problem(root, tmp_path, kind, save, line):
    (found,) = told(settings(root, str(save(tmp_path / "sd")), generator={"kind": kind}))
    assert line in found


def test_a_controlnet_of_another_model_is_a_problem(root, tmp_path):
    model = save_tiny_guided(tmp_path / "sd")
    save_tiny_guided(tmp_path / "xl", xl=True)
    own, other = ({"controlnet": str(tmp_path / place / "controlnet")} for place in ("sd", "xl"))
    assert told(settings(root, str(model), generator={"kind": "controlnet_inpaint"} | own)) == []
    (line,) = told(settings(root, str(model), generator={"kind": "controlnet_inpaint"} | other))
    assert line == ("generators.mine.controlnet: made for another model: its cross_attention_dim is 32, needed is 16")


def test_weights_of_fid_that_are_not_there_are_told(root, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    given = settings(root, "checkpoints/mini-sd-inpaint", judge={"clip": "checkpoints/mini-clip"})
    (missing,) = examine_fid(given)
    assert missing.text.startswith("judge.fid_features: ")
    assert "name it in judge.inception_weights" in missing.text
    published_file().parent.mkdir(parents=True)
    published_file().write_bytes(b"weights")
    (there,) = examine_fid(given)
    assert str(published_file()) in there.text
    named = given.model_copy(update={"judge": given.judge.model_copy(update={"fid_features": "clip"})})
    assert list(examine_fid(named)) == []


def test_torch_files_are_a_problem_unless_marked_or_converted(root, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = to_torch_files(save_tiny_gligen(tmp_path / "gligen"))
    change = {"generator": {"kind": "gligen"}}
    (line,) = told(settings(root, str(folder), **change))
    assert f"write {folder}+convert" in line
    marked = settings(root, f"{folder}+convert", **change)
    assert not told(marked)
    (model,) = examine_models(marked, ask_hub=False)
    assert model.converted_bytes == model.weight_bytes > 0
    converted(folder, [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()])
    assert not told(settings(root, str(folder), **change))
    assert examine_models(marked, ask_hub=False)[0].converted_bytes == 0


def test_a_lost_part_is_a_problem(root, tmp_path):
    folder = save_tiny_inpainting(tmp_path / "sd")
    next((folder / "vae").glob("*.safetensors")).unlink()
    assert "no weights in vae" in told(settings(root, str(folder)))[0]


def test_what_a_hub_says_is_told_and_only_small_files_are_fetched(root, tmp_path, hub):  # noqa: F811
    hub.folders["owner/sd"] = folder = save_tiny_inpainting(tmp_path / "sd")
    hub.folders["owner/clip"] = save_tiny_clip(tmp_path / "clip")
    given = settings(root, "owner/sd", judge={"clip": f"owner/clip@{hub.commit('owner/clip')}"})
    assert "not in the cache of the hub" in str(examine(given))
    models = {model.required.key: model for model in examine_models(given, ask_hub=True)}
    sd = models["generators.mine.model"]
    text = " ".join(str(finding) for finding in sd.findings)
    assert "licence apache-2.0, not gated" in text
    assert f"unpinned: main is {hub.commit('owner/sd')} now" in text
    assert "unpinned" not in str(models["judge.clip"].findings)
    assert sd.missing_bytes > sd.weight_bytes > 0
    assert sd.denoiser_bytes == (folder / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size
    assert not list((tmp_path / "hub").rglob("*.safetensors"))


def test_other_weights_and_unfit_ones_are_found_without_a_download(root, tmp_path, hub):  # noqa: F811
    hub.folders["owner/sd"] = save_tiny_inpainting(tmp_path / "sd", in_channels=4)
    unet = "unet/diffusion_pytorch_model.safetensors"
    given = settings(root, "owner/sd", generator={"weights": {unet: "0" * 64, "vae/none": "0" * 64}})
    lines = [finding.text for finding in problems(examine_models(given, ask_hub=True)[0].findings)]
    assert any("its UNet takes 4 channels" in line for line in lines)
    assert any(f"{unet} is not the file that weights names" in line for line in lines)
    assert any("vae/none is not the file" in line for line in lines)


def test_without_a_hub_nothing_runs_until_the_weights_are_there(root, tmp_path, hub, monkeypatch):  # noqa: F811
    hub.folders["owner/net"] = save_tiny_clip(tmp_path / "clip")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    given = settings(root, str(save_tiny_inpainting(tmp_path / "sd")), judge={"clip": "owner/net"})
    found = examine_thoroughly(given)
    (line,) = [finding.text for finding in problems(found)]
    assert line.startswith(
        "judge.clip: owner/net: not in the cache, and HF_HUB_OFFLINE forbids contacting the hub; nothing"
    )
    assert ".venv/bin/hf download owner/net where" in line
    assert any("6 car" in finding.text or "3 car" in finding.text for finding in found)


def test_a_refusal_of_the_hub_is_a_problem(root, tmp_path, hub):  # noqa: F811
    given = settings(root, str(save_tiny_inpainting(tmp_path / "sd")), judge={"clip": "owner/none"})
    (line,) = [finding.text for finding in problems(examine_thoroughly(given))]
    assert "the hub has no such repository" in line


def test_a_frame_that_cannot_be_read_is_a_problem(root, tmp_path):
    model = str(save_tiny_inpainting(tmp_path / "sd"))
    path = next((root / "leftImg8bit").rglob("*.png"))
    path.write_bytes(path.read_bytes()[:100])
    (line,) = [finding.text for finding in problems(examine_thoroughly(settings(root, model)))]
    assert path.name in line


def test_counts_and_sizes(root):
    given = settings(root, "none", gates={"spares": 0})
    dataset = DatasetFacts(train_frames=3, val_frames=0, bytes_per_pixel=1.0, findings=())
    assert selected(given, 3) == 6
    needs = {what: size for what, _, size in disk_needs(given, dataset, [])}
    assert needs["12 windows"] == 12 * 2048 * 1024 * 1.05
    assert needs["crops"] == 6 * 32 * 32
    (pictures,) = work(given, dataset, [], {"generators.mine": 2.0})
    assert (pictures.times, pictures.each, pictures.measured) == (6, 2.0, True)


def test_what_anonymises_and_what_judges_masks_is_counted(root):
    judge = {"clip": "owner/none", "masks": {"segmenter": "s"}}
    hidden = {"generator": "mine", "classes": ["car", "person"]}
    cities = {"root": str(root), "train_cities": ["ulm", "jena"]}
    changes = {"judge": judge, "anonymise": hidden, "arms": ["real"], "segmenters": {"s": {"kind": "fastinst"}}}
    changes |= {"dataset": cities}
    given = settings(root, "none", gates={"spares": 1}, **changes)
    dataset = DatasetFacts(3, 1, 1.0, (), {"car": 2.0, "person": 0.3, "bus": 5.0})
    found = {one.what: one.times for one in work(given, dataset, [], {})}
    assert found["repaintings that anonymise"] == 2 * 10  # 9.2 instances in four frames
    assert "repaintings" not in found
    (judges,) = [times for what, times in found.items() if what.startswith("trainings of judges")]
    assert judges == len(given.dataset.train_cities)


def test_time_is_told_with_its_money_and_its_assumptions(root):
    given = settings(root, "none", costs={"price_per_hour": 3.0, "device_hours": 100})
    works = [Work(f"generators.{name}", "repaintings", times, 86400.0, False) for name, times in (("a", 10), ("b", 1))]
    *_, last = work_findings(works, given)
    assert last.kind == "warning"
    assert "at most 11.0 days of one device, 792 EUR at 3 an hour" in last.text
    assert "more than costs.device_hours" in last.text
    assert "CALIBRATE=1" in last.text


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (90, "1.5 min"), (5400, "1.5 h"), (1728000, "20.0 days")])
def test_durations_are_told_in_the_unit_that_people_plan_in(seconds, text):
    assert duration(seconds) == text


@pytest.mark.slow
def test_calibration_measures_and_is_kept_until_the_recipe_changes(root, tmp_path):
    model = str(save_tiny_inpainting(tmp_path / "sd"))
    segmenter = {"kind": "mask2former", "model": "checkpoints/mini-mask2former", "batch_size": 1, "crop": [32, 64]}
    data = {"root": str(root), "train_cities": ["ulm"], "val_cities": ["bonn"]}
    shutil.copytree(root / "leftImg8bit" / "train" / "ulm", root / "leftImg8bit" / "val" / "bonn")
    shutil.copytree(root / "gtFine" / "train" / "ulm", root / "gtFine" / "val" / "bonn")
    for path in [*root.rglob("val/bonn/*")]:
        path.rename(path.with_name(path.name.replace("ulm", "bonn")))
    given = settings(root, model, segmenters={"tiny": segmenter}, dataset=data)
    found = examine_thoroughly(given, measure=True)
    assert not problems(found)
    kept = json.loads((tmp_path / "artifacts" / ".cache" / "calibration.json").read_text())
    assert {key: one["seconds"] > 0 for key, one in kept.items()} == {"generators.mine": True, "segmenters.tiny": True}
    assert sum("measured here" in finding.text for finding in examine(given)) == 2
    changed = settings(root, model, segmenters={"tiny": segmenter}, dataset=data, generator={"steps": 3})
    assert sum("measured here" in finding.text for finding in examine(changed)) == 1


def test_times_are_those_of_the_machine_as_in_a_plan_and_of_a_gpu_beside_them(root, tmp_path):
    given = settings(root, str(save_tiny_inpainting(tmp_path / "sd")), device="cpu")
    times = [finding.text for finding in examine_thoroughly(given) if finding.text.startswith("time: ")]
    planned = [finding.text for finding in examine(given) if finding.text.startswith("time: ")]
    assert times[:-1] == planned
    assert "(assumed for one CPU core)" in planned[0]
    assert times[-1].startswith("time: on one H100 at most ")


def test_the_command_ends_with_the_number_of_problems(root, tmp_path, monkeypatch, capsys):
    given = settings(root, "checkpoints/none")
    (tmp_path / "params.yaml").write_text(given.model_dump_json(exclude_unset=True))
    monkeypatch.setenv("INSTSYNTH_PARAMS", str(tmp_path / "params.yaml"))
    with pytest.raises(SystemExit, match="error: 1 problem that a run would end with"):
        main([])
    assert "problem: generators.mine.model" in capsys.readouterr().out


def test_a_folder_with_other_weights_is_a_problem(root, tmp_path):
    folder = save_tiny_inpainting(tmp_path / "sd")
    unet = "unet/diffusion_pytorch_model.safetensors"
    assert not told(settings(root, str(folder), generator={"weights": {unet: file_sha256(folder / unet)}}))
    (line,) = told(settings(root, str(folder), generator={"weights": {unet: "0" * 64}}))
    assert f"holds other weights: {unet} is not the file that weights names" in line
