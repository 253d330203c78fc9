"""What becomes stale when a setting is edited: every field of every section, compared with a table for people.

`python -m tests.graph.test_stale_table` prints the table as it is now. A new field fails the test until the table names
it: that is the moment to say in whose recipe it belongs.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePath
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest

from assets import build_graph
from assets.shared.declaration import Artifact
from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.settings import AnonymiseSettings, CheckpointRef, GeneratorSettings, SegmenterSettings, Settings
from instsynth_dagster.settings.base import Section
from instsynth_dagster.settings.kinds import Kinded, class_of_section

TABLE = Path(__file__).with_name("stale_table.md")
HEAD = """# What becomes stale when a setting is edited

Of each section the settings, and the artifacts that read them: what is made again first. What lies below follows only
if their content changes. `[some]`: only the partitions that the setting belongs to. `own`: of the generator
whose setting it is. `[where named]`: of a generator that the artifact's section names.

| section | settings | artifacts |
|---|---|---|
"""

SEGMENTER = {"kind": "fastinst", "model": "models/base"}
RAW: dict[str, Any] = {
    # of annotated images the graph reads what their index holds of a city, not settings (`graph.data.annotations_of`)
    "dataset": {"root": "data", "train_cities": ["ulm", "jena"], "val_cities": ["bonn"], "demo_city": {}},
    "classes": ["car", "bus"],
    "prompts": {name: {"templates": [f"a {name} {{lighting}}, {{description}}"]} for name in ("car", "bus")},
    "captions": {"model": "models/captions"},
    "prompt_bank": {"encoder": "gligen"},
    "generators": {kind: {"kind": kind, "model": f"models/{kind}"} for kind in ("blendeddiff", "gligen")}
    | {"guided": {"kind": "controlnet_inpaint", "model": "models/guided", "controlnet": "models/controlnet"}},
    "judge": {"clip": "models/clip", "masks": {"segmenter": "oneformer"}},
    "gates": {"min_change": 0.1},
    "refinement": {"features": {"model": "models/features"}},
    "few_shot": {"features": {"model": "models/features"}, "generator": "gligen"},
    "few_shot_instances": {"novel": ["bus"], "generator": "gligen", "systems": {"one": {"base": SEGMENTER}}},
    "semantics": {
        "segmenter": {"kind": "siseg", "architecture": {"semantics": {"kind": "oneformer"}}},
        "cities": ["jena"],
    },
    "arms": [
        "real",
        "zoom_crop",
        "copy_paste",
        "gligen",
        "gligen_refined",
        "gligen_frame",
        "gligen_insert",
        "from_semantics",
    ],
    "segmenters": {kind: {"kind": kind} for kind in ("detectron2", "oneformer")},
}
ANONYMISE = AnonymiseSettings(generator="gligen", classes=("bus",))
"""Refused beside exports of windows; here it stands for a params file of its own."""
OTHER: dict[str, Any] = {
    "label_table": LabelTable(tuple(replace(label, color=(1, 2, 3)) for label in CITYSCAPES.labels)),
    "dataset.leave_out": ("ulm_000000_000001",),
    "classes": ("car", "bus", "truck"),
    "prompts": None,
    "prompt_bank.encoder": "blendeddiff",
    "anonymise.generator": "blendeddiff",
    "anonymise.classes": ("bus", "car"),
    "judge.masks.segmenter": "detectron2",
    "few_shot.generator": "blendeddiff",
    "few_shot_instances.generator": "blendeddiff",
    "few_shot_instances.novel": ("car",),
    "arms": ("real", "zoom_crop", "copy_paste", "gligen", "from_semantics"),
}
"""Edits that names elsewhere in the file must fit."""
FAMILIES = ("generators", "segmenters", "few_shot_instances.systems", "prompts")
"""Dicts whose entries are alike: `*` stands for each of them."""

Read = dict[str, dict[str, str]]
"""Asset -> partition -> what its fingerprint takes from the settings."""


def reads(graph: dict[str, Artifact]) -> Read:
    return {
        key: {
            part: json.dumps([made.settings(part), made.versions and made.versions(part), sorted(made.upstream(part))])
            for part in made.partitions
        }
        for key, made in graph.items()
    }


def leaves(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Place, value and annotation of every field that is no section of its own."""
    for name, field in type(value).model_fields.items():
        inner = getattr(value, name)
        if isinstance(inner, Section):
            yield from leaves(inner, (*place, name))
        elif isinstance(inner, dict) and any(isinstance(entry, Section) for entry in inner.values()):
            for key, entry in inner.items():
                yield from leaves(entry, (*place, name, key))
        elif name == "architecture" and isinstance(value, Kinded) and (model := value.architecture_model()):
            for key, entry in model.model_fields.items():
                if inside := class_of_section(entry.annotation, inner.get(key)):
                    section = inside.model_validate(inner[key])
                    yield from leaves(section, (*place, name, key))
                elif not entry.is_required():  # the classes, which come from elsewhere in the file
                    yield (*place, name, key), inner.get(key, entry.default), entry.annotation
        else:
            yield (*place, name), inner, field.annotation


def edited(value: Any, annotation: Any) -> Any:
    """Another value of a field's type."""
    if get_origin(annotation) in (Union, UnionType):
        return edited(None, next(kind for kind in get_args(annotation) if kind is not NoneType))
    if get_origin(annotation) is Literal:
        return next((other for other in get_args(annotation) if other != value), "another")
    if isinstance(value, bool) or annotation is bool:
        return not value
    if annotation in (int, float):
        return (value or 0) + 1
    if annotation in (str, CheckpointRef):
        return annotation(f"{value}-other")
    if isinstance(annotation, type) and issubclass(annotation, PurePath):
        return Path(f"{value}-other")
    if get_origin(annotation) is tuple:
        return (*(value or ()), edited(max(value, default=0) if _numbers(value) else None, get_args(annotation)[0]))
    if get_origin(annotation) is dict:
        return {**value, "other": 1}
    if hasattr(annotation, "__metadata__"):
        return edited(value, get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return None
    raise AssertionError(f"no other value of {annotation}")


def _numbers(values: Any) -> bool:
    return bool(values) and all(isinstance(value, int | float) for value in values)


def with_value(value: Any, place: tuple[str, ...], other: Any) -> Any:
    """A copy with another value at a place."""
    name, *rest = place
    if isinstance(value, dict):
        return {**value, name: with_value(value[name], tuple(rest), other) if rest else other}
    inner = with_value(getattr(value, name), tuple(rest), other) if rest else other
    return value.model_copy(update={name: inner})


def touched(before: Read, after: Read, own: str) -> tuple[str, ...]:
    """Artifacts that read another value than before."""
    found = []
    for key in {**before, **after}:
        one, other = before.get(key, {}), after.get(key, {})
        changed = [part for part in {**one, **other} if one.get(part) != other.get(part)]
        if changed:
            member, slash, last = key.rpartition("/")
            name = f"own/{last}" if slash and member == own else key
            found.append(name if len(changed) == len({**one, **other}) else f"{name}[some]")
    return tuple(found)


def section_of(place: tuple[str, ...]) -> tuple[str, str]:
    """The section of a field, entries of families as `*`, and the entry that it belongs to."""
    path, own = ".".join(place[:-1]), ""
    for family in FAMILIES:
        if path.startswith(f"{family}."):
            own, _, rest = path.removeprefix(f"{family}.").partition(".")
            path = f"{family}.*" + (f".{rest}" if rest else "")
    return path or "params", own


def table() -> str:
    settings = Settings.model_validate(RAW)
    settings = settings.model_copy(update={"anonymise": ANONYMISE, "arms": (*settings.arms, "anonymised")})
    before = reads(build_graph(settings))
    found_in: dict[tuple[str, str], list[tuple[str, ...]]] = defaultdict(list)
    for place, value, annotation in leaves(settings):
        path = ".".join(place)
        other = OTHER[path] if path in OTHER else edited(value, annotation)
        if path == "classes":
            extra = {**settings.prompts, "truck": settings.prompts["car"]}
            after = settings.model_copy(update={"classes": other, "prompts": extra})
        else:
            after = with_value(settings, place, other)
        section, own = section_of(place)
        found_in[section, place[-1]].append(touched(before, reads(build_graph(after)), own))
    lines: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for (section, name), results in found_in.items():
        every = dict.fromkeys(key for found in results for key in found)
        always = set.intersection(*map(set, results))
        lines[section, tuple(key if key in always else f"{key}[where named]" for key in every)].append(name)
    return HEAD + "".join(
        f"| {section} | {', '.join(names)} | {', '.join(found) or 'none'} |\n"
        for (section, found), names in lines.items()
    )


def test_the_kinds_of_the_table_have_every_field_of_any_kind() -> None:
    for family, section in (("generators", GeneratorSettings), ("segmenters", SegmenterSettings)):
        shown = {name for one in RAW[family].values() for name in section.kinds()[one["kind"]].model_fields}
        assert shown == {name for kind in section.kinds().values() for name in kind.model_fields}


@pytest.mark.slow
def test_an_edit_makes_stale_what_the_table_says() -> None:
    assert table() == TABLE.read_text()


if __name__ == "__main__":
    print(table(), end="")
