"""Views of the settings: what is declared can be read and is hashed, and nothing else."""

from __future__ import annotations

import json

import pytest

from instsynth_dagster.errors import Reader, UndeclaredRead
from instsynth_dagster.settings import SegmenterSettings, Settings, load_settings
from instsynth_dagster.settings.view import hashed, view

READER = Reader("crops", "aachen|car", "assets/crops.py")


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings()


def changed(settings: Settings, section: str, **values: object) -> Settings:
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})


def with_segmenter(settings: Settings, **values: object) -> Settings:
    recipe = settings.segmenters["fastinst"].model_copy(update=values)
    return settings.model_copy(update={"segmenters": {"fastinst": recipe}})


def test_a_whole_section_is_itself(settings):
    assert view(settings, ["selection"]).selection is settings.selection


def test_what_is_not_declared_raises_and_names_asset_setting_and_file(settings):
    seen = view(settings, ["selection.k", "generators.diffinpainting.model"], READER)
    assert seen.selection.k == 3
    with pytest.raises(UndeclaredRead) as caught:
        _ = seen.selection.margin
    assert str(caught.value) == (
        "crops[aachen|car] reads params selection.margin, which it does not declare; "
        "add 'selection.margin' to its `settings` in assets/crops.py"
    )


@pytest.mark.parametrize(
    ("read", "named"),
    [
        (lambda seen: seen.seed, "seed"),
        (lambda seen: seen.generators["other"], "generators.other"),
        (lambda seen: "other" in seen.generators, "generators.other"),
        (lambda seen: seen.generators.get("other"), "generators.other"),
        (lambda seen: list(seen.generators), "generators.*"),
        (lambda seen: dict(seen.generators), "generators.*"),
        (lambda seen: len(seen.generators), "generators.*"),
        (lambda seen: seen.generators.items(), "generators.*"),
        (lambda seen: seen.generators["diffinpainting"].steps, "generators.diffinpainting.steps"),
        (lambda seen: getattr(seen.gates, "max_seam", None), "gates.max_seam"),
        (lambda seen: seen.gates.has_bounds, "gates.m"),
    ],
)
def test_no_way_round(settings, read, named):
    seen = view(settings, ["generators.diffinpainting.model", "gates.spares"], READER)
    with pytest.raises(UndeclaredRead, match=f"params {named.replace('*', '[*]')}"):
        read(seen)


def test_a_use_holds_the_fields_of_its_role(settings):
    recipe = view(settings, ["segmenters.fastinst:recipe"]).segmenters["fastinst"]
    assert (recipe.kind, recipe.steps, recipe.workers) == ("fastinst", 350, 0)
    with pytest.raises(UndeclaredRead):
        _ = recipe.max_detections
    inference = view(settings, ["segmenters.fastinst:inference"]).segmenters["fastinst"]
    assert (inference.kind, inference.max_detections) == ("fastinst", 60)
    with pytest.raises(UndeclaredRead):
        _ = inference.steps


@pytest.mark.parametrize(
    ("change", "training", "scoring"),
    [
        ({"max_detections": 1}, False, True),
        ({"test_size": (64, 64)}, False, True),
        ({"steps": 2}, True, False),
        ({"workers": 7}, False, False),
        ({"processes": 2}, False, False),
        ({"checkpoint_every": 3}, False, False),
    ],
)
def test_what_is_hashed_follows_the_role(settings, change, training, scoring):
    for use, differs in (("recipe", training), ("inference", scoring)):
        before, after = (
            hashed(view(given, [f"segmenters.fastinst:{use}"]))
            for given in (settings, with_segmenter(settings, **change))
        )
        assert (before != after) is differs, (use, change)


ARCHITECTURES = {
    "maskdiff": ({"region": 32, "shots": 3}, {"steps": 1, "guidance": 1.0, "samples": 2, "min_score": 0.1}),
    "generative": ({"dim": 64}, {"window": [64, 64], "sample_steps": 2, "renewal_threshold": 0.1, "nms": 0.6}),
    "siseg": ({"widths": [8, 8]}, {"seed_threshold": 2.0, "walk_steps": 0, "min_area": 5}),
}


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_what_only_inference_reads_of_an_architecture_is_no_part_of_the_recipe(settings, kind):
    learnt, applied = ARCHITECTURES[kind]
    given = SegmenterSettings.model_validate({"kind": kind, "architecture": learnt | applied})
    changed = settings.model_copy(update={"segmenters": {"s": given}})
    for use, held in (("recipe", learnt), ("inference", applied)):
        assert view(changed, [f"segmenters.s:{use}"]).segmenters["s"].architecture == held
    assert view(changed, ["segmenters.s"]).segmenters["s"] is given


@pytest.mark.parametrize(("kind", "inside"), [("maskdiff", "detector"), ("siseg", "semantics")])
def test_segmenters_inside_an_architecture_are_divided_as_those_of_the_file(settings, kind, inside):
    learnt = {"kind": "generative", "steps": 2, "architecture": {"dim": 64}}
    applied = {"max_detections": 5, "architecture": {"nms": 0.6}}
    executed = {"workers": 3}
    whole = learnt | applied | executed | {"architecture": {"dim": 64, "nms": 0.6}}
    given = SegmenterSettings.model_validate({"kind": kind, "architecture": {inside: whole}})
    changed = settings.model_copy(update={"segmenters": {"s": given}})
    recipe, inference, both = (
        view(changed, [f"segmenters.s{use}"]).segmenters["s"] for use in (":recipe", ":inference", "")
    )
    assert recipe.architecture == {inside: learnt | executed}
    assert inference.architecture == given.applied_architecture == {inside: {"kind": "generative"} | applied}
    assert hashed(recipe)["architecture"] == {inside: learnt}
    assert hashed(inference)["architecture"] == inference.architecture
    assert hashed(both)["architecture"] == {inside: learnt | applied | {"architecture": {"dim": 64, "nms": 0.6}}}


@pytest.mark.parametrize(("kind", "inside"), [("maskdiff", "detector"), ("siseg", "semantics")])
def test_a_segmenter_inside_that_has_a_recipe_only_is_hashed_by_trainings_only(settings, kind, inside):
    given = SegmenterSettings.model_validate({"kind": kind, "architecture": {inside: {"kind": "fastinst", "steps": 2}}})
    changed = settings.model_copy(update={"segmenters": {"s": given}})
    assert view(changed, ["segmenters.s:recipe"]).segmenters["s"].architecture == given.architecture
    assert view(changed, ["segmenters.s:inference"]).segmenters["s"].architecture == {}


def test_hashed_values_are_json_and_the_order_of_entries_counts(settings):
    generators = dict.fromkeys(("a", "b"), settings.generators["diffinpainting"])
    turned = dict(reversed(generators.items()))
    one, other = (
        hashed(view(settings.model_copy(update={"generators": given}), ["generators.*.model", "dataset.root"]))
        for given in (generators, turned)
    )
    assert json.loads(json.dumps(one)) == one
    assert one != other


@pytest.mark.parametrize("path", ["selektion", "selection.kk", "generators.none", "seed.x", "generators.*.stepz"])
def test_a_path_that_names_nothing_is_an_error(settings, path):
    with pytest.raises(ValueError, match="no such setting"):
        view(settings, [path])


def test_a_view_survives_what_the_method_does_with_settings(settings):
    recipe = view(settings, ["segmenters.fastinst:recipe"]).segmenters["fastinst"]
    copy = recipe.model_copy(update={"steps": 3})
    assert copy.steps == 3
    with pytest.raises(UndeclaredRead):
        _ = copy.max_detections
    assert "max_detections" not in recipe.model_dump()
