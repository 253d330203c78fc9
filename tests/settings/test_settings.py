"""Settings: every mistake is one line that names the file and the key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from assets import build_graph
from instsynth_dagster.errors import SettingsError
from instsynth_dagster.settings import load_settings

ROOT = Path(__file__).parents[2]


def edited(tmp_path: Path, **changes: object) -> Path:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    for key, value in changes.items():
        *sections, last = key.split("__")
        section = raw
        for name in sections:
            section = section[name]
        section[last] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


SHIPPED = ["params.yaml", *(f"profiles/{path.name}" for path in sorted((ROOT / "profiles").glob("*.yaml")))]


def test_files_named_in_settings_are_part_of_fingerprints(tmp_path):
    """A path is no JSON of itself."""
    by_file = {}
    for file in ("one", "other"):
        given = {"kind": "detectron2", "config_file": f"{file}.yaml"}
        judge = {"clip": "checkpoints/mini-clip", "inception_weights": f"{file}.pth"}
        graph = build_graph(load_settings(edited(tmp_path, segmenters={"mask_rcnn": given}, judge=judge)))
        assets = [graph[key] for key in ("trained_segmenters", "image_quality")]
        by_file[file] = [json.dumps(asset.settings(asset.partitions[0])) for asset in assets]
    assert all(one != other for one, other in zip(*by_file.values(), strict=True))


@pytest.mark.parametrize(("profile", "arm"), [("refined", "diffinpainting_refined"), ("semantics", "from_semantics")])
def test_a_share_of_the_labels_is_refused_where_an_arm_is_made_with_all_of_them(tmp_path, profile, arm):
    raw = yaml.safe_load((ROOT / f"profiles/{profile}.yaml").read_text()) | {"label_percents": [10, 100]}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(SettingsError, match=f"label_percents below 100: '{arm}' is made with the labels of all"):
        load_settings(path)


LEAK_CHECKS = {"splits", "instances_from_semantics"}
EVALUATION = {
    *("segmentation_scores", "evaluation_tables", "segmenter_costs", "report"),
    *("gfss_scores", "gfss_table", "fsis_scores", "fsis_table", "grouping_scores"),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_nothing_but_evaluation_reads_a_val_city(name):
    """Neither prompts, generators, gates, prototypes, windows nor trainings; what looks for leaks reads hashes only."""
    settings = load_settings(ROOT / name)
    graph, val = build_graph(settings), set(settings.dataset.val_cities)
    for asset in graph.values():
        if asset.key in {"demo_city", "frames", "instances", *LEAK_CHECKS, *EVALUATION}:
            continue
        if asset.key.startswith("anonymised/"):  # val frames are hidden as well; what trains reads the train cities'
            continue
        for partition in asset.partitions:
            read = set(asset.upstream(partition))
            assert not {upstream for upstream, _ in read} & EVALUATION, asset.key
            assert not {key for _, key in read if key.split("|")[0] in val}, asset.key


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_files_are_valid_and_make_a_graph(name):
    settings = load_settings(ROOT / name)
    models = [section.model for section in (*settings.generators.values(), *settings.segmenters.values())]
    for model in filter(None, models):
        assert not model.startswith("checkpoints/") or (ROOT / model / "README.md").exists()
    graph = build_graph(settings)
    position = {key: index for index, key in enumerate(graph)}
    for asset in graph.values():
        for partition in asset.partitions:
            for upstream, key in asset.upstream(partition):
                assert position[upstream] < position[asset.key]
                assert key in graph[upstream].partitions


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nightly__cron": "every night"}, ["nightly.cron: 'every night' is not understood", "minute, hour"]),
        ({"selection__kk": 3}, ["selection.kk", "unknown key"]),
        ({"selection__k": 0}, ["selection.k"]),
        ({"selection__policy": "largest"}, ["selection.policy"]),
        ({"classes": ["car", "unicorn"]}, ["classes", "unicorn"]),
        ({"dataset__val_cities": ["alderford"]}, ["alderford", "train_cities and val_cities"]),
        ({"dataset__train_cities": []}, ["dataset.train_cities"]),
        ({"dataset__train_cities": ["../evil"]}, ["dataset.train_cities"]),
        ({"arms": ["real", "gan"]}, ["arms", "gan"]),
        ({"integration__window_size": [512, 0]}, ["integration.window_size"]),
        ({"dataset__format": "coco"}, ["dataset.annotations", "Field required"]),
        ({"dataset__format": "yolo11"}, ["dataset", "known are cityscapes"]),
        ({"prompts__car__colors": []}, ["prompts.car", "{color}"]),
        ({"prompts__tram": {"templates": ["a tram"]}}, ["tram"]),
        ({"prompts__car": {"templates": ["a car {weather}"]}}, ["prompts.car", "'weather'", "{lighting}"]),
        ({"prompts__car": {"templates": ["a {description}"]}}, ["prompts.car", "captions.model"]),
        (
            {
                "anonymise": {"generator": "diffinpainting", "classes": ["car"]},
                "prompts__car": {"templates": ["a car, {description}"]},
                "captions": {"model": "x"},
            },
            ["anonymise", "prompts.car", "describes what is hidden"],
        ),
        (
            {
                "anonymise": {"generator": "diffinpainting", "classes": ["car"]},
                "generators__diffinpainting": {"kind": "controlnet_inpaint", "model": "x", "controlnet": "y"},
            },
            ["anonymise.generator", "the edges of what is hidden"],
        ),
        (
            {"segmenters": {"e": {"kind": "eomt", "backbone": "facebook/dinov2-base"}}},
            ["segmenters.e", "backbone belongs to kind", "not to eomt"],
        ),
        ({"segmenters": {"f": {"kind": "fastinst", "text_branch": False}}}, ["text_branch belongs to kind oneformer"]),
        ({"anonymise": {"generator": "sd", "classes": ["car"]}}, ["anonymise.generator names 'sd'"]),
        ({"anonymise": {"generator": "diffinpainting", "classes": ["cat"]}}, ["anonymise.classes names 'cat'"]),
        (
            {"anonymise": {"generator": "diffinpainting", "classes": ["car"]}},
            ["exports of 'zoom_crop' would show what the anonymised export hides"],
        ),
        (
            {
                "anonymise": {"generator": "diffinpainting", "classes": ["car"]},
                "generators__diffinpainting__strength": 0.9,
            },
            ["generators.diffinpainting.strength is 0.9", "the pixels that are to be hidden"],
        ),
        (
            {
                "anonymise": {"generator": "diffinpainting", "classes": ["car"]},
                "captions": {"model": "models/blip"},
                "prompts__car": {"templates": ["a photo of a car, {description}"]},
            },
            ["prompts.car.templates hold {description}", "leave it out"],
        ),
        ({"arms": ["real", "anonymised"]}, ["anonymised needs a section anonymise"]),
        ({"gates__min_mask_iou": 0.5}, ["gates.min_mask_iou needs a segmenter", "judge.masks"]),
        ({"judge__masks": {"segmenter": "sam"}}, ["judge.masks.segmenter names 'sam'"]),
        (
            {"judge__masks": {"segmenter": "fastinst"}, "dataset__train_cities": ["alderford"]},
            ["judge.masks", "one train city only"],
        ),
        ({"label_percents": [100, 10], "gates__min_real_similarity": 0.5}, ["label_percents", "all labelled"]),
    ],
)
def test_a_mistake_is_named_in_one_line(tmp_path, changes, words):
    path = edited(tmp_path, **changes)
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in [str(path), *words])


@pytest.mark.parametrize(("text", "words"), [("a: [", "not valid YAML"), ("- 1", "expected a mapping")])
def test_files_that_are_no_params(tmp_path, text, words):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=words):
        load_settings(path)
    with pytest.raises(SettingsError, match="no such params file"):
        load_settings(tmp_path / "none.yaml")


def test_a_strength_that_leaves_no_step_is_an_error_with_its_key(tmp_path) -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["generators"]["diffinpainting"] |= {"steps": 4, "strength": 0.2}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(SettingsError, match=r"generators\.diffinpainting.*strength 0\.2 of 4 steps"):
        load_settings(tmp_path / "params.yaml")
    raw["generators"]["diffinpainting"] |= {"strength": 0.25}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    assert load_settings(tmp_path / "params.yaml").generators["diffinpainting"].strength == 0.25
