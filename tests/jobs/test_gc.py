"""What no params file wants is listed before it goes; what one wants stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.graph.staleness import Asset
from jobs.gc import main, remove, unused_files

FINGERPRINT = "0" * 32


def graph(*keys: str) -> dict[str, Asset]:
    class Planned:
        partitions = ("ulm|car", "ulm|bus")

    return dict.fromkeys(keys, Planned())  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(tmp_path / "artifacts")
    for asset in ("old/crops", "new/crops"):
        for partition in ("ulm|car", "ulm|bus"):
            with store.write(asset, partition, FINGERPRINT) as out:
                out.add({"text": asset})
    (tmp_path / "artifacts" / ".cache").mkdir()
    (tmp_path / "artifacts" / ".cache" / "features.sqlite").write_bytes(b"x")
    return store


def test_everything_is_wanted_while_a_params_file_wants_it(store):
    assert unused_files(store, [graph("new/crops"), graph("old/crops")]) == []


def test_what_nobody_wants_goes_and_the_rest_stays(store):
    found = unused_files(store, [graph("new/crops")])
    assert [one.folder for one in found] == ["old/crops/ulm/bus", "old/crops/ulm/car"]
    assert all(one.bytes for one in found)
    remove(store, found)
    assert store.manifest("old/crops", "ulm|car") is None
    assert store.read("new/crops", "ulm|car")["text"].tolist() == ["new/crops"]
    assert not [name for name in store.storage.names("") if name.startswith("old/")]
    assert ".cache/features.sqlite" in store.storage.names("")


def test_a_class_less_is_partitions_less(store):
    graphs = [{**graph("old/crops"), **graph("new/crops")}]
    graphs[0]["new/crops"].partitions = ("ulm|car",)  # type: ignore[misc]
    graphs[0]["old/crops"].partitions = ("ulm|car",)  # type: ignore[misc]
    assert {one.folder for one in unused_files(store, graphs)} == {"new/crops/ulm/bus", "old/crops/ulm/bus"}


def test_unfinished_and_damaged_files_are_found(store, tmp_path):
    root = Path(tmp_path / "artifacts")
    (root / "gone" / "ulm").mkdir(parents=True)
    (root / "gone" / "ulm" / "part.parquet").write_bytes(b"x")
    (root / "new" / "crops" / "ulm" / "car" / "part.parquet.damaged").write_bytes(b"x")
    found = {one.folder: one.files for one in unused_files(store, [graph("new/crops", "old/crops")])}
    assert found == {"gone/ulm": ("part.parquet",), "new/crops/ulm/car": ("part.parquet.damaged",)}
    remove(store, unused_files(store, [graph("new/crops", "old/crops")]))
    assert store.manifest("new/crops", "ulm|car") is not None


def test_the_command_lists_before_it_removes(tmp_path, monkeypatch, capsys):
    root = tmp_path / "artifacts"
    (tmp_path / "params.yaml").write_text(
        f"artifacts: {{root: {root}, exports: {tmp_path}/exports, results: {tmp_path}/results}}\n"
        f"dataset: {{root: {tmp_path}/data, train_cities: [ulm]}}\n"
        "classes: [car]\nprompts: {car: {templates: [a photo of a car]}}\narms: [real]\n"
    )
    monkeypatch.setenv("INSTSYNTH_PARAMS", str(tmp_path / "params.yaml"))
    with Store(root).write("old/crops", "ulm|car", FINGERPRINT) as out:
        out.add({"text": "x"})
    main([str(tmp_path / "params.yaml")])
    assert "old/crops/ulm/car: " in capsys.readouterr().out
    assert (root / "old" / "crops" / "ulm" / "car" / "manifest.json").is_file()
    main([str(tmp_path / "params.yaml"), "--remove"])
    assert not (root / "old" / "crops" / "ulm" / "car" / "manifest.json").exists()
    capsys.readouterr()
    main([str(tmp_path / "params.yaml")])
    assert "every artifact in the store is used" in capsys.readouterr().out
