"""Device seconds, what they cost, and a budget that stops before it is exceeded."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from assets import build_assets, build_graph
from instsynth_dagster.artifacts.costs import HOUR, LEDGER, Ledger, Meter
from instsynth_dagster.artifacts.storage.local import LocalStorage
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.errors import BudgetReached
from instsynth_dagster.evaluation.tables.cost_tables import crop_costs, table_costs
from instsynth_dagster.settings import CostSettings, Settings
from jobs.results import COSTS, write_results
from tests.segmenters.test_mask2former import fit
from tests.segmenters.toy import tiny
from tests.tiny_pipelines import save_tiny_inpainting
from tests.toy_run import CLASSES, CROPS, MODEL, ROWS_PER_PART, copied, raw_settings, run, toy_settings

FOLDER, FINGERPRINT = "crops/aachen/car", "a" * 64


def test_the_ledger_counts_every_attempt_once(tmp_path):
    store = Store(tmp_path, rows_per_part=2)
    ledger = Ledger(store.storage)

    def attempt(rows: int, kill: bool = False, stop: bool = False) -> None:
        writer = store.write("crops", "aachen|car", FINGERPRINT)
        writer.__enter__()
        for _ in range(rows):
            writer.meter.spend(1.0)
            writer.add({"device_seconds": 1.0})
        if not kill:
            writer.__exit__(KeyboardInterrupt if stop else None, None, None)

    attempt(3, kill=True)  # a whole part and one row that is lost
    assert ledger.spent() == 0
    attempt(3, stop=True)  # these three and the two of the part
    assert ledger.spent() == ledger.unfinished(FOLDER, FINGERPRINT) == 5
    attempt(1)
    assert (ledger.spent(), ledger.unfinished(FOLDER, FINGERPRINT)) == (6, 0)
    assert store.require("crops", "aachen|car").device_seconds == 6
    store.storage.remove(FOLDER, store.storage.entries(FOLDER))
    attempt(2)  # made again: paid for again
    assert ledger.spent() == 8


def test_pieces_stop_before_the_budget_is_exceeded():
    meter = Meter(left=10.0, expected=4.0)
    done = []
    for piece in meter.while_affordable([4.0, 3.0, 3.0]):
        meter.spend(piece)
        done.append(piece)
    assert done == [4.0, 3.0]  # a third may take as long as the longest
    with pytest.raises(BudgetReached):
        meter.check_refused()
    with pytest.raises(BudgetReached):
        Meter(left=3.0, expected=4.0).check()
    Meter().check()


@pytest.mark.parametrize(("left", "stops_at"), [(100.0, None), (10.5, 8), (7.5, 4), (3.5, 1)])
def test_a_training_begins_no_stretch_that_it_cannot_end(monkeypatch, left, stops_at):
    clock = itertools.count()
    monkeypatch.setattr("instsynth_dagster.artifacts.costs.time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    seen = []
    step = Meter(left=left).charge_steps(lambda done, *_: seen.append(done), every=4)
    try:
        for done in range(1, 13):
            step(done, 12)
    except BudgetReached:
        pass
    assert seen[-1] == (stops_at or 12)


@pytest.mark.parametrize("devices", [1, 4])
def test_a_second_on_several_devices_costs_as_many(monkeypatch, devices):
    clock = itertools.count()
    monkeypatch.setattr("instsynth_dagster.artifacts.costs.time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    meter = Meter(left=8.0 * devices - 0.5)
    step = meter.charge_steps(lambda *_: None, every=2, devices=devices)
    for done in range(1, 6):
        step(done, 12)
    with pytest.raises(BudgetReached):
        step(6, 12)
    assert meter.used == 6 * devices


@pytest.mark.slow
def test_a_stopped_training_goes_on_from_its_checkpoint(tmp_path):
    def poor(done, *_):
        if done == 2:
            raise BudgetReached("costs.device_hours: used up")

    with pytest.raises(BudgetReached):
        fit(tmp_path / "stopped", tiny(), progress=poor)
    steps = []
    resumed = fit(tmp_path / "stopped", tiny(), progress=lambda done, *_: steps.append(done))
    assert steps == [3, 4]
    assert resumed.curve.equals(fit(tmp_path / "whole", tiny()).curve)


@pytest.fixture(scope="module")
def model(toy_run):
    return toy_run / MODEL


@pytest.mark.slow
def test_a_budget_stops_the_graph_and_a_larger_one_goes_on(tmp_path, toy_run, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(
        "instsynth_dagster.synthesis.generators.base.time", SimpleNamespace(monotonic=lambda: float(next(ticks)))
    )  # every batch takes one second
    whole = Store(toy_run / "artifacts")
    batches = sum(-(-whole.require(CROPS, f"oakham|{name}").rows // 2) for name in CLASSES)
    dataset = copied(toy_run, tmp_path, above=CROPS)
    raw = raw_settings(tmp_path, toy_run / MODEL, arms=["real", "diffinpainting"], dataset=dataset)
    with pytest.raises(dg.Failure, match=r"costs\.device_hours: the next piece of work would exceed the budget"):
        run(raw | {"costs": {"device_hours": (batches - 1.5) / HOUR}}, ROWS_PER_PART)
    spent = Ledger(LocalStorage(tmp_path / "artifacts")).spent()
    assert spent == batches - 2
    with pytest.raises(dg.Failure, match="would exceed"):  # nothing is done with what is left
        run(raw | {"costs": {"device_hours": (batches - 1.5) / HOUR}}, ROWS_PER_PART)
    assert Ledger(LocalStorage(tmp_path / "artifacts")).spent() == spent
    rich = run(raw | {"costs": {"device_hours": (batches + 1.0) / HOUR}}, ROWS_PER_PART)
    assert Ledger(rich.storage).spent() == batches
    for name in CLASSES:
        assert rich.require(CROPS, f"oakham|{name}").digest == whole.require(CROPS, f"oakham|{name}").digest


@pytest.mark.slow
def test_who_uses_no_device_pays_for_none(tmp_path, model):
    """Templates need no encoder, and a class without an instance no generator."""
    absent = "bus"
    raw = raw_settings(tmp_path, model, arms=["real"])
    raw["prompts"][absent] = {"templates": ["a photo of a bus"]}
    raw["classes"] = [*CLASSES, absent]
    store = run(raw)
    crops = {name: store.require(CROPS, f"oakham|{name}") for name in raw["classes"]}
    assert crops[absent].rows == crops[absent].device_seconds == 0
    assert crops["car"].device_seconds > 0
    assert all(store.require("prompt_bank", name).device_seconds == 0 for name in raw["classes"])
    ledger = tmp_path / "artifacts" / LEDGER
    folders = {path.parent.relative_to(ledger) for path in ledger.rglob("*.json")}
    assert folders == {Path(CROPS, "oakham", name) for name in CLASSES}


@pytest.mark.parametrize(("bank", "pool"), [(None, None), ({"encoder": "diffinpainting"}, "device")])
def test_only_a_diverse_bank_waits_for_the_device(tmp_path, bank, pool):
    model = save_tiny_inpainting(tmp_path)
    settings = Settings.model_validate(raw_settings(tmp_path, model, arms=["real"], prompt_bank=bank))
    (definition,) = (made for made in build_assets(build_graph(settings)) if made.key.path == ["prompt_bank"])
    assert definition.op.pool == pool


@pytest.mark.slow
def test_costs_of_crops_and_tables(tmp_path, toy_run):
    costs = CostSettings(price_per_hour=3600, currency="EUR")  # a euro a second
    settings, store = Settings.model_validate(toy_settings(toy_run)), Store(toy_run / "artifacts")
    graph, manifest_of = build_graph(settings), store.snapshot()
    (crops,) = crop_costs(graph, manifest_of, costs).to_dict("records")
    made = [store.require(CROPS, f"oakham|{name}") for name in CLASSES]
    seconds = sum(manifest.device_seconds for manifest in made)
    assert (crops["crops"], crops["accepted"]) == (sum(m.rows for m in made),) * 2
    assert crops["device_seconds"] == pytest.approx(seconds, abs=0.051)
    assert crops["price per accepted crop"] == f"{crops['device_seconds'] / crops['accepted']:.4f} EUR"
    (table,) = table_costs(graph, manifest_of, costs).to_dict("records")
    paid = {key: sum(store.require(key, part).device_seconds for part in graph[key].partitions) for key in graph}
    on_device = {CROPS, "trained_segmenters", "segmentation_scores", "segmenter_costs"}
    assert {key for key, spent in paid.items() if spent} == on_device
    only_reported = paid["segmenter_costs"]
    assert table["device_seconds"] == pytest.approx(sum(paid.values()) - only_reported, abs=0.051)
    assert Ledger(store.storage).spent() == pytest.approx(sum(paid.values()), abs=0.01)
    write_results(graph, store, tmp_path / "results", costs)
    text = (tmp_path / "results" / COSTS).read_text()
    assert "price per accepted crop" in text
    assert "unfinished and replaced work included" in text
    json.dumps(crops)
