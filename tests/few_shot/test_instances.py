"""The FSIS protocol: shots, windows, what is hidden, and how scores are split."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.instances import instance_index
from instsynth_dagster.data.masks import encode_rle
from instsynth_dagster.errors import DatasetError
from instsynth_dagster.few_shot.coco_instances import VOC_CLASSES, coco_shots
from instsynth_dagster.few_shot.instances import (
    Samples,
    draw_instances,
    shot_samples,
    split_scores,
    summary,
    synthetic_samples,
)
from instsynth_dagster.few_shot.synthesis import Repainted
from instsynth_dagster.few_shot.systems import scores
from instsynth_dagster.few_shot.unannotated import Unannotated
from instsynth_dagster.settings import IntegrationSettings
from tests.segmenters.toy import ToyDataset

NOVEL = ("car", "motorcycle")
WINDOWS = IntegrationSettings(window_size=(96, 48))


def selected(name: str, count: int) -> pd.DataFrame:
    return pd.DataFrame({"instance_id": [f"town_{number}:{name}" for number in range(count)]})


@pytest.mark.slow
@given(count=st.integers(5, 30), few=st.integers(1, 5), seed=st.integers(0, 30))
def test_shots_are_exactly_k_nested_and_seeded(count: int, few: int, seed: int) -> None:
    rows = selected("car", count)
    chosen = draw_instances(rows, "car", 5, seed)["instance_id"].tolist()
    assert len(set(chosen)) == 5
    assert draw_instances(rows, "car", few, seed)["instance_id"].tolist() == chosen[:few]
    assert draw_instances(rows.sample(frac=1, random_state=1), "car", 5, seed)["instance_id"].tolist() == chosen


def test_too_few_instances_are_an_error() -> None:
    with pytest.raises(DatasetError, match="10 shots requested, but only 3"):
        draw_instances(selected("car", 3), "car", 10, 0)


def frame(frame_id: str) -> tuple[np.ndarray, np.ndarray]:
    return ToyDataset(size=(72, 144))[int(frame_id.rpartition("_")[2])]


def shots_of(name: str, frames: list[int]) -> pd.DataFrame:
    rows = []
    for number in frames:
        table = instance_index(frame(f"town_{number}")[1], labels=CITYSCAPES)
        row = table[(table["class_name"] == name) & ~table["is_group"]].iloc[0]
        rows.append(
            {
                "instance_id": f"town_{number}:{row['value']}",
                "frame_id": f"town_{number}",
                **row[["x1", "y1", "x2", "y2"]],
            }
        )
    return pd.DataFrame(rows)


def drawn() -> dict[str, pd.DataFrame]:
    return {
        "person": shots_of("person", [0]),
        "car": shots_of("car", [0, 1]),
        "motorcycle": shots_of("motorcycle", [2]),
    }


def test_only_shots_of_novel_classes_are_annotated() -> None:
    samples = shot_samples(drawn(), NOVEL, frame, WINDOWS, 0, labels=CITYSCAPES)
    assert len(samples) == 4
    shown = {("town_0", 26001), ("town_1", 26001), ("town_2", 32000)}
    for sample in samples:
        frame_id = sample.sources[0].rpartition(":")[0]
        annotated = {v for v in np.unique(sample.ids[sample.ids >= 1000]).tolist() if v // 1000 in (26, 32)}
        assert {(frame_id, value) for value in annotated} <= shown
    own = [int(sample.sources[0].rpartition(":")[2]) for sample in samples]
    assert all((sample.ids == value).any() for sample, value in zip(samples, own, strict=True))


def test_hidden_objects_are_neither_seen_nor_background() -> None:
    hidden = Unannotated(ToyDataset(), NOVEL)
    for index in range(len(hidden)):
        (image, ids), (before, known) = hidden[index], ToyDataset()[index]
        gone = np.isin(known, [26001, 32000])
        assert not np.isin(ids // 1000, [26, 32]).any()
        assert np.isin(ids[gone], [26, 32]).all()  # groups: ignored, not background
        assert len(np.unique(image[gone].reshape(-1, 3), axis=0)) == 1  # one colour
        people = known == 24000
        assert (ids[people] == 24000).all()
        assert (image[people] == before[people]).all()


def repaint_shots(name: str, rows: pd.DataFrame):
    for row in rows.itertuples():
        image, ids = frame(row.frame_id)
        mask = ids == int(row.instance_id.rpartition(":")[2])
        for shade in (10, 200):
            yield Repainted(row.instance_id, np.where(mask[..., None], np.uint8(shade), image), mask)


def test_synthetic_windows_come_from_the_shots_alone() -> None:
    shots = {name: rows for name, rows in drawn().items() if name in NOVEL}
    made = synthetic_samples(shots, NOVEL, repaint_shots, frame, WINDOWS, 0, labels=CITYSCAPES)
    assert len(made) == 6
    assert {source for sample in made for source in sample.sources} == {
        row for rows in shots.values() for row in rows["instance_id"]
    }
    assert Samples(made, ("car", "person"), labels=CITYSCAPES).is_synthetic.all()

    def leaking(name: str, rows: pd.DataFrame):
        yield from repaint_shots(name, shots_of(name, [3]))

    with pytest.raises(DatasetError, match="none of the 2 shots of car"):
        synthetic_samples(shots, NOVEL, leaking, frame, WINDOWS, 0, labels=CITYSCAPES)


def test_base_and_novel_recombine_by_class_counts() -> None:
    per_class = pd.DataFrame(
        {"class_name": CITYSCAPES.classes, "ap": np.linspace(0.1, 0.8, 8), "ap50": np.linspace(0.2, 0.9, 8)}
    )
    found = split_scores(per_class, ("truck", "bus", "train"))
    assert found["all_ap"] == pytest.approx((5 * found["base_ap"] + 3 * found["novel_ap"]) / 8)
    assert found["all_ap50"] == pytest.approx((5 * found["base_ap50"] + 3 * found["novel_ap50"]) / 8)


class FindsLargeOnes:
    """A predictor that finds the objects of at least 100 pixels of a frame exactly, and no other."""

    def __init__(self, ids: np.ndarray) -> None:
        found = [value for value in np.unique(ids[ids >= 1000]).tolist() if (ids == value).sum() >= 100]
        rows = [(CITYSCAPES.label_of(value).name, 0.9, encode_rle(ids == value)["counts"]) for value in found]
        self._table = pd.DataFrame(rows, columns=["class_name", "score", "mask_counts"])

    def predict(self, images):
        return [self._table for _ in images]


def test_scores_are_of_both_protocols() -> None:
    ids = np.full((60, 80), 7, np.int32)
    ids[5:25, 5:25] = 26_000  # a car of 400 pixels, and one of 49, which the protocol of Cityscapes does not count
    ids[40:47, 10:17] = 26_001
    ids[30:50, 40:60] = 33_000  # a bicycle
    found = scores(
        FindsLargeOnes(ids), [(np.zeros((60, 80, 3), np.uint8), ids)], ("car", "bicycle"), ["car"], CITYSCAPES
    )
    assert [found[f"{name}_ap"] for name in ("base", "novel", "all")] == pytest.approx([1, 1, 1])
    half = 51 / 101  # recalls 0, .01, ... up to one of two cars
    assert found["base_coco_ap"] == pytest.approx(1)
    assert [found["novel_coco_ap"], found["novel_coco_ap50"]] == pytest.approx([half, half])
    assert found["all_coco_ap"] == pytest.approx((1 + half) / 2)


def test_the_table_tells_what_synthesis_changes() -> None:
    rows = [
        {
            "system": "a",
            "shots": 1,
            "seed": seed,
            "with_synthesis": made,
            "novel_ap": 0.1 + 0.01 * seed + gain * made,
            "base_ap": 0.3,
        }
        for seed, gain in enumerate((0.02, 0.04, 0.06))
        for made in (False, True)
    ]
    table = summary(pd.DataFrame(rows)).set_index("with_synthesis")
    assert table.loc[True, "novel_ap_gain"] == pytest.approx(0.04)
    reach = 4.302653 * 0.02 / 3**0.5  # Student's t, two degrees of freedom
    assert table.loc[True, "novel_ap_gain_low"] == pytest.approx(0.04 - reach, abs=1e-5)
    assert table.loc[False, "seeds"] == 3
    assert np.isnan(table.loc[False, "novel_ap_gain"])


def test_coco_lists_go_by_name_and_leave_crowds_out(tmp_path) -> None:
    assert len(VOC_CLASSES) == 20
    data = {
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}],
        "annotations": [
            {"id": number, "category_id": (3, 90)[number % 2], "iscrowd": int(number > 40)} for number in range(60)
        ],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(data))
    many, few = coco_shots(path, 10, 0), coco_shots(path, 5, 0)
    assert {name: ids[:5] for name, ids in many.items()} == few
    assert all(number % 2 == 0 and number <= 40 for number in many["car"])
    assert set(coco_shots(path, 1, 0, ["car"])) == {"car"}
    with pytest.raises(DatasetError, match="30 shots requested"):
        coco_shots(path, 30, 0)
    path.write_text("{}")
    with pytest.raises(DatasetError, match="not a COCO instance file"):
        coco_shots(path, 1, 0)
