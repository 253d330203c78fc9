"""Params files with every kind of mistake: reading, the graph, and the definitions."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from assets import build_assets, build_graph
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.errors import SettingsError, UserError
from instsynth_dagster.graph.staleness import expected
from instsynth_dagster.settings import Settings, load_settings
from tests.fuzz.oracle import nothing_stored, outcome

ROOT = Path(__file__).parents[2]
SHIPPED = [yaml.safe_load(path.read_text()) for path in (ROOT / "params.yaml", *sorted((ROOT / "profiles").glob("*")))]
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    -(2**63),
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "..",
    "/",
    "~",
    "a/../../b",
    "{}",
    "real",
    "diffinpainting",
    "car",
    "no_such_thing",
    "checkpoints/none",
    "s3://key:secret@bucket/x",
    "https://user@host/x",
    "2001-01-01",
    "\u202e",
    "9" * 5000,
    "x" * 300,
    "a\nb",
    "* * * * *",
    "a b c d e",
    "99 99 99 99 99",
    "Europe/Nowhere",
    [],
    [[]],
    {},
    [None],
    {"": 1},
    {"a": {"b": []}},
    ["a", "a"],
    [0, 0],
    [1, 2, 3],
    [2.0, 0.5],
    {"kind": "grabcut"},
    {"kind": "siseg", "architecture": {"semantics": 5}},
]
LAUGHS = b"a: &a [%s]\n" % (b"1," * 200)
LAUGHS += b"".join(b"%c: &%c [%s]\n" % (letter, letter, b"*%c," % (letter - 1) * 200) for letter in b"bcde")
TEXTS: list[tuple[bytes, str]] = [
    (b"", "mapping"),
    (b"\xff\xfe\x00", "UTF-8"),
    (b"\x00", "YAML"),
    (b"seed: 1\nseed: 2\n", "'seed' occurs twice"),
    (b"selection: {k: 1, k: 2}\n", "'k' occurs twice"),
    (b"dataset: !!python/object:os.system {}\n", "YAML"),
    (b"dataset: !!python/object/apply:os.system ['true']\n", "YAML"),
    (b"dataset: !unknown 3\n", "YAML"),
    (b"seed: !!int x\n", "YAML"),
    (b"seed: !!binary aGVsbG8=\n", "seed"),
    (b"seed: !!set {a, b}\n", "seed"),
    (b"seed: !!timestamp x\n", "YAML"),
    (b"seed: 2001-99-99\n", "YAML"),
    (b"seed: 2001-01-01\n", "seed"),
    (b"1: 2\n", "key must be text"),
    (b"? [a, b]\n: 1\n", "YAML"),
    (b"a: &a [*a]\n", "nested deeper"),
    (b"a: &a {b: *a}\n", "nested deeper"),
    (b"a: *nobody\n", "YAML"),
    (b"[" * 5000, "nested deeper"),
    (b"a: " + b"[" * 60 + b"]" * 60, "nested deeper"),
    (b"%YAML 9.9\n---\na: 1\n", "YAML"),
    (b"--- 1\n--- 2\n", "YAML"),
    (b"\ta: 1\n", "YAML"),
    (b"seed: " + b"9" * 5000, "YAML"),
    (LAUGHS, "values"),
    (b"#" * (1 << 21), "larger"),
    (b"seed: 1\n" * 3, "occurs twice"),
    (b"just text", "mapping"),
    (b"seed: .nan\n", "seed"),
    (b"artifacts: {root: 's3://key:secret@bucket'}\n", "credentials"),
    (b'artifacts: {root: "a\\0b"}\n', "control"),
    (b'artifacts: {root: "\\ud800"}\n', "artifacts"),
]


def read(path: Path, artifacts: Path) -> Settings:
    """A params file as every command reads it, its graph and what the fingerprints of missing partitions hold."""
    chosen = load_settings(path)
    elsewhere = chosen.artifacts.model_copy(update={"root": str(artifacts)})
    graph = build_graph(chosen.model_copy(update={"artifacts": elsewhere}))
    for asset in graph.values():
        for partition in asset.partitions[:2]:
            json.dumps(asset.settings(partition))
            if asset.key not in ("frames", "instances_from_semantics"):  # these read the data set
                expected(asset, partition, lambda *_: Store(artifacts).manifest("x"))
    return chosen


def places(value: Any, place: tuple = ()) -> list[tuple]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for key, child in inner for found in places(child, (*place, key)))]


def edited(data, raw: dict[str, Any]) -> None:
    """One mistake at a random place."""
    place = data.draw(st.sampled_from([place for place in places(raw) if place]), label="place")
    section: Any = raw
    for key in place[:-1]:
        section = section[key]
    way = data.draw(st.sampled_from(["other", "gone", "unknown", "doubled"]), label="way")
    if way == "gone":
        del section[place[-1]]
    elif way == "unknown" and isinstance(section, dict):
        section[data.draw(st.sampled_from(["kk", "Seed", "a b", "\u00e9", "x" * 300, "__class__"]))] = 1
    elif way == "doubled" and isinstance(section, list):
        section.append(section[place[-1]])
    else:
        section[place[-1]] = copy.deepcopy(data.draw(st.sampled_from(ODD), label="value"))


@pytest.mark.slow
@settings(max_examples=200)
@given(st.data())
def test_a_mistake_in_a_shipped_file_is_named(data):
    raw = copy.deepcopy(data.draw(st.sampled_from(SHIPPED)))
    for _ in range(data.draw(st.sampled_from([1, 1, 1, 2]))):
        edited(data, raw)
    with tempfile.TemporaryDirectory() as folder:
        path, artifacts = Path(folder, "params.yaml"), Path(folder, "artifacts")
        artifacts.mkdir()
        path.write_text(yaml.dump(raw, Dumper=DUMPER))
        with nothing_stored(artifacts):
            found = outcome("params", lambda: read(path, artifacts), f"{path}: ")
    if not isinstance(found, UserError):
        assert Settings.model_validate_json(found.model_dump_json(exclude_unset=True)) == found
        for key in raw:
            assert key in type(found).model_fields
    else:
        assert "secret" not in str(found)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.data())
def test_a_damaged_text_is_named(data):
    text = yaml.safe_dump(data.draw(st.sampled_from(SHIPPED))).encode()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    put = data.draw(st.binary(max_size=6) | st.sampled_from([b"", b"{", b"- ", b": ", b"*x", b"!!"]))
    damaged = text[:start] + put + text[end:]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "params.yaml")
        path.write_bytes(damaged)
        found = outcome("params", lambda: read(path, Path(folder, "artifacts")), f"{path}: ")
    if not isinstance(found, UserError):
        assert Settings.model_validate(yaml.safe_load(damaged)) == found


@pytest.mark.slow
@pytest.mark.parametrize(("text", "words"), TEXTS, ids=range(len(TEXTS)))
def test_a_text_that_is_no_params_file(tmp_path, text, words):
    path = tmp_path / "params.yaml"
    path.write_bytes(text)
    found = outcome("params", lambda: load_settings(path), f"{path}: ")
    assert isinstance(found, SettingsError)
    assert words in str(found)
    assert "secret" not in str(found)


@pytest.mark.parametrize("name", ["none.yaml", ".", "a\0b", "x" * 400, "none/none.yaml", "loop"])
def test_a_path_that_is_no_params_file(tmp_path, name):
    (tmp_path / "loop").symlink_to("loop")
    assert isinstance(outcome("params", lambda: load_settings(tmp_path / name), str(tmp_path)), SettingsError)


@pytest.mark.slow
@settings(max_examples=25)
@given(st.data())
def test_what_can_be_read_can_be_defined(data):
    """Settings that are understood give assets, jobs and schedules, or name the key that does not."""
    from instsynth_dagster.definitions import build_definitions

    raw = copy.deepcopy(SHIPPED[0])
    for _ in range(3):
        edited(data, raw)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "params.yaml")
        path.write_text(yaml.dump(raw, Dumper=DUMPER))

        def define():
            chosen = load_settings(path)
            return build_definitions(chosen, lambda: chosen).get_repository_def()

        outcome("params", define, f"{path}: ", "nightly.cron: ")


@pytest.mark.parametrize("name", ["a-b", "a_b", "all", "x" * 80, "0", "none", "export"])
def test_a_name_that_is_allowed_makes_assets(name):
    raw = copy.deepcopy(SHIPPED[0])
    raw["generators"][name] = raw["generators"]["diffinpainting"]
    raw["segmenters"][name] = raw["segmenters"]["fastinst"]
    raw["dataset"]["train_cities"].append(name)
    raw["arms"].append(name)
    found = outcome("params", lambda: build_assets(build_graph(Settings.model_validate(raw))), "generators")
    assert not isinstance(found, UserError)
