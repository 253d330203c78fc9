from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.labels import Label, LabelTable
from instsynth_dagster.evaluation.metrics import instance_ap
from instsynth_dagster.evaluation.metrics.bootstrap import frame_weights, interval, resample, run_weights
from instsynth_dagster.evaluation.metrics.coco_ap import coco_matches, coco_scores
from instsynth_dagster.evaluation.metrics.instance_ap import average_precision, match_frame
from instsynth_dagster.evaluation.tables.tables import (
    Run,
    ap_table,
    compare,
    difference_table,
    instance_table,
    leading_metric,
    part_table,
)
from instsynth_dagster.evaluation.tables.verdict import verdict
from instsynth_dagster.evaluation.tables.views import (
    MINUS,
    MISSING,
    ap_view,
    class_view,
    difference_view,
    instance_view,
    is_number,
    readable,
    to_markdown,
)
from tests.evaluation.metrics.random_streets import random_ids, random_predictions

FRAMES = 6
METRICS = ["ap", "ap_low", "ap_high", "ap50", "ap50_low", "ap50_high"]


def truth() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [random_ids(rng) for _ in range(FRAMES)]


@cache
def scored(arm: str, seed: int, lost: float = 0.0) -> Run:
    """A run whose predictions are shaken ground truth, a share of them lost."""
    rng = np.random.default_rng(seed)
    frames = [(ids, random_predictions(rng, ids, "f").sample(frac=1 - lost, random_state=seed)) for ids in truth()]
    return Run(
        arm,
        "mask2former",
        seed,
        300,
        120,
        [match_frame(*f, labels=CITYSCAPES) for f in frames],
        coco_matches(frames, classes=CITYSCAPES.classes, labels=CITYSCAPES),
    )


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return [scored("real", 1, 0.8), scored("zoom_crop", 2), scored("real", 3, 0.8), scored("zoom_crop", 4)]


def samples(windows: int) -> pd.DataFrame:
    rows = [{"source": "frame", "instances_car": 3, "instances_bus": 0}] * 4
    rows += [{"source": "window", "instances_car": 1, "instances_bus": 1}] * windows
    return pd.DataFrame(rows)


def test_table_one_counts_frames_and_windows() -> None:
    table = instance_table({"real": samples(0), "diffinpainting": samples(6)}, ("car", "bus"), labels=CITYSCAPES)
    real, synthetic = (table[table["arm"] == arm].set_index("class_name") for arm in ("real", "diffinpainting"))
    assert real["augmented"].tolist() == [12, 0, 12]
    assert synthetic[["original", "synthetic", "augmented"]].to_numpy().tolist() == [
        [12, 6, 18],
        [0, 6, 6],
        [12, 12, 24],
    ]
    assert synthetic["ratio"]["car"] == pytest.approx(1.5)
    assert np.isnan(synthetic["ratio"]["bus"])
    assert synthetic["label_id"].tolist() == [26, 28, -1]


def test_ap_table_averages_seeds(runs: list[Run]) -> None:
    table = ap_table(runs, classes=CITYSCAPES.classes).set_index("arm")
    assert list(table.index) == ["real", "zoom_crop"]
    aps = [average_precision(run.matches, classes=CITYSCAPES.classes).ap for run in runs]
    assert table["ap"]["real"] == pytest.approx((aps[0] + aps[2]) / 2)
    assert table["ap_sd"]["zoom_crop"] == pytest.approx(abs(aps[1] - aps[3]) / 2**0.5)
    assert np.isnan(table["pq"]["real"])
    coco = [coco_scores(run.coco, classes=CITYSCAPES.classes).ap for run in runs]
    assert table["coco_ap"]["real"] == pytest.approx((coco[0] + coco[2]) / 2)
    assert table["seeds"].tolist() == [2, 2]
    assert table["protocol"].str.contains("Cityscapes").all()
    assert table["protocol"].str.contains("COCO").all()
    assert {f"ap50_{name}" for name in CITYSCAPES.classes} <= set(table.columns)


@pytest.mark.slow
def test_differences_are_paired_seeded_and_cover_the_estimate(runs: list[Run]) -> None:
    [row] = difference_table(compare(runs, seed=1, classes=CITYSCAPES.classes)).to_dict("records")
    ap = ap_table(runs, classes=CITYSCAPES.classes).set_index("arm")
    assert (row["arm"], row["baseline"], row["seeds"], row["frames"]) == ("zoom_crop", "real", 2, FRAMES)
    assert row["ap"] == pytest.approx(ap["ap"]["zoom_crop"] - ap["ap"]["real"])
    assert row["ap50"] == pytest.approx(ap["ap50"]["zoom_crop"] - ap["ap50"]["real"])
    assert row["ap_low"] < row["ap"] < row["ap_high"] < 1
    pd.testing.assert_frame_equal(
        difference_table(compare(runs, seed=1, classes=CITYSCAPES.classes)),
        difference_table(compare(runs, seed=1, classes=CITYSCAPES.classes)),
    )
    assert difference_table(compare(runs, seed=2, classes=CITYSCAPES.classes))["ap_low"][0] != row["ap_low"]


@pytest.mark.slow
def test_an_arm_against_its_double_differs_by_nothing() -> None:
    run = scored("real", 1)
    double = Run(
        "diffinpainting", *[getattr(run, f) for f in ("segmenter", "seed", "steps", "samples", "matches", "coco")]
    )
    row = difference_table(compare([run, double], seed=0, classes=CITYSCAPES.classes)).iloc[0]
    assert row[["ap", "ap_low", "ap_high", "ap50_low", "ap50_high"]].tolist() == [0.0] * 5
    text = verdict(difference_table(compare([run, double], seed=0, classes=CITYSCAPES.classes)))
    assert "cannot be told apart from real (+0.0 AP" in text


def test_bootstrap_agrees_with_scoring_each_resample_by_hand() -> None:
    run = scored("real", 5)
    matches = run.matches
    weights = frame_weights(FRAMES, seed=9, resamples=7)
    assert weights.sum(axis=1).tolist() == [FRAMES] * 7
    result = resample([run], weights, run_weights(1, 0, 7), CITYSCAPES.classes)
    by_hand = [
        average_precision(
            [m for m, times in zip(matches, row, strict=True) for _ in range(times)], classes=CITYSCAPES.classes
        ).ap
        for row in weights
    ]
    np.testing.assert_allclose(result["ap"][1:], by_hand, rtol=0, atol=1e-12)


def test_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(200):
        frames = rng.normal(0.3, 1.0, 40)
        means = frame_weights(40, int(rng.integers(1 << 30))) @ frames / 40
        low, high = interval(means)
        covered.append(low <= 0.3 <= high)
    assert 0.88 <= np.mean(covered) <= 0.98
    assert np.isnan(interval(np.array([np.nan]))).all()


def test_resamplings_are_scored_all_at_once(monkeypatch) -> None:
    """One curve for each run, class and overlap, however many resamplings there are."""
    calls, original = [], instance_ap._curve_area
    monkeypatch.setattr(instance_ap, "_curve_area", lambda *given: calls.append(given) or original(*given))
    three = [scored(arm, seed) for seed, arm in enumerate(("real", "zoom_crop", "diffinpainting"))]
    difference_table(compare(three, seed=0, classes=CITYSCAPES.classes))
    assert 0 < len(calls) <= 3 * len(CITYSCAPES.classes) * len(instance_ap.OVERLAPS)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_resampled_trainings_have_the_variance_of_their_mean(count: int) -> None:
    values = np.random.default_rng(count).normal(size=count)
    shares = run_weights(count, seed=0, resamples=20_000)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    means = shares @ values
    assert means.mean() == pytest.approx(values.mean(), abs=0.02)
    assert means.var() == pytest.approx(values.var(ddof=1) / count, rel=0.05)


@pytest.mark.slow
def test_intervals_hold_the_noise_of_training() -> None:
    steady = [replace(scored("real", 1), seed=seed) for seed in range(4)]
    noisy = [replace(scored("diffinpainting", 1, lost), seed=seed) for seed, lost in enumerate((0.0, 0.9, 0.0, 0.9))]
    alike = [replace(scored("diffinpainting", 1, 0.4), seed=seed) for seed in range(4)]
    spans = []
    for arm in (noisy, alike):
        row = difference_table(compare([*steady, *arm], seed=0, classes=CITYSCAPES.classes)).iloc[0]
        spans.append(row["ap_high"] - row["ap_low"])
    assert spans[0] > 1.2 * spans[1]


@pytest.mark.slow
def test_generators_are_held_against_what_needs_none() -> None:
    controls = ("color_jitter", "color_jitter_frame", "copy_paste", "copy_paste_insert", "oracle_frame")
    made = ("diffinpainting", "diffinpainting_refined", "diffinpainting_frame", "diffinpainting_insert")
    runs = [scored(arm, 1) for arm in ("real", "zoom_crop", *controls, *made)]
    table = difference_table(compare(runs, seed=0, resamples=5, classes=CITYSCAPES.classes))
    beside = table.groupby("arm")["baseline"].agg(set).to_dict()
    common = {"real", "zoom_crop"}
    assert beside == {
        "zoom_crop": {"real"},
        **dict.fromkeys(controls, common),
        **dict.fromkeys(made[:2], common | {"color_jitter", "copy_paste"}),
        "diffinpainting_frame": common | {"color_jitter_frame"},
        "diffinpainting_insert": common | {"copy_paste_insert"},
    }


def test_runs_on_other_frames_are_refused(runs: list[Run]) -> None:
    other = Run("zoom_crop", "mask2former", 0, 1, 1, runs[1].matches[::-1], runs[1].coco)
    with pytest.raises(ValueError, match=r"zoom_crop .* same frames"):
        compare([runs[0], other], seed=0, classes=CITYSCAPES.classes)


def differences(**by_baseline: tuple[float, float, float]) -> pd.DataFrame:
    rows = [("m2f", 100, "diffinpainting", name, *ap, *ap, 0.4, 1, 24, 300) for name, ap in by_baseline.items()]
    columns = ["segmenter", "percent", "arm", "baseline", *METRICS, "best_ap50", "seeds", "frames", "resamples"]
    return pd.DataFrame(rows, columns=columns)


UP, DOWN, OPEN = (0.03, 0.01, 0.05), (-0.03, -0.05, -0.01), (0.01, -0.01, 0.03)


@pytest.mark.parametrize(
    ("real", "zoom_crop", "says"),
    [
        (UP, UP, "helped beyond zooming in"),
        (UP, OPEN, "may be the zoom alone"),
        (UP, DOWN, "cost part of what"),
        (OPEN, OPEN, "No gain from repainting is shown"),
        (DOWN, OPEN, "No gain from repainting is shown"),
        (OPEN, UP, "beyond zooming in, but no gain over real"),
    ],
)
def test_verdict_claims_what_the_intervals_show(real, zoom_crop, says: str) -> None:
    text = verdict(differences(real=real, zoom_crop=zoom_crop))
    assert says in text
    assert text.count("includes zero") == [real, zoom_crop].count(OPEN)
    assert "24 val frames" in text
    assert "one training seed" in text


def test_verdict_names_the_rivals_that_were_not_beaten() -> None:
    assert "zooming in." in verdict(differences(real=UP, zoom_crop=UP, color_jitter=UP))
    text = verdict(differences(real=OPEN, zoom_crop=UP, color_jitter=DOWN, copy_paste=UP))
    assert "beyond zooming in, but no gain over real and color_jitter is shown." in text


def test_other_data_are_judged_by_the_ap_of_coco(runs: list[Run]) -> None:
    assert leading_metric(CITYSCAPES) == "ap"
    cone = Label("cone", 1, has_instances=True, ignore_in_eval=False, color=(255, 90, 0))
    lead = leading_metric(LabelTable((cone,)))
    assert lead == "coco_ap"
    ap, found = ap_table(runs, CITYSCAPES.classes), difference_table(compare(runs, 1, CITYSCAPES.classes))
    shown = ap_view(ap, lead)
    assert list(shown.columns[:3]) == ["arm", "COCO AP", "COCO AP50"]
    assert "Cityscapes AP" in shown.columns
    [row] = found.to_dict("records")
    coco = ap.set_index("arm")["coco_ap"]
    assert row["coco_ap"] == pytest.approx(coco["zoom_crop"] - coco["real"])
    assert row["coco_ap_low"] < row["coco_ap"] < row["coco_ap_high"]
    shown = [name for metric in ("COCO AP", "COCO AP50") for name in (metric, f"95 % interval of {metric}")]
    assert list(difference_view(found, lead).columns) == ["arm", "against", *shown]
    both = {"ap": 0.03, "ap_low": 0.01, "ap_high": 0.05, "coco_ap": -0.03, "coco_ap_low": -0.05, "coco_ap_high": -0.01}
    split = found.assign(arm="g", best_ap50=0.5, **both)
    assert "beats real by 3.0 AP (" in verdict(split)
    assert "falls behind real by 3.0 COCO AP (" in verdict(split, lead)


def test_verdict_without_controls() -> None:
    assert "cannot be separated" in verdict(differences(real=UP))
    assert "Nothing to compare" in verdict(differences())
    zoom = differences(real=UP).assign(arm="zoom_crop")
    assert "before anything was repainted" in verdict(zoom)
    assert "cannot be compared with real" in verdict(differences(real=(np.nan,) * 3))
    assert "No effect of a perfect generator" in verdict(differences(real=OPEN).assign(arm="oracle"))
    pasted = differences(real=UP, zoom_crop=UP).assign(arm="copy_paste")
    assert "Pasting real instances into other frames helped" in verdict(pasted)
    assert "epainting" not in verdict(pasted)


def test_verdict_of_a_segmenter_that_learned_nothing() -> None:
    table = differences(real=UP, zoom_crop=UP).assign(best_ap50=[0.004, 0.006])
    text = verdict(table)
    assert "Nothing was learned by m2f: AP50 is 0.6 at most, so diffinpainting proves nothing." in text
    assert "helped" not in text
    one = table.assign(best_ap50=[0.004, 0.3])
    assert "helped beyond zooming in" in verdict(one)


def test_markdown_is_aligned_and_complete(runs: list[Run]) -> None:
    ap = ap_table(runs, classes=CITYSCAPES.classes)
    for view in (
        ap_view(ap),
        class_view(ap),
        difference_view(difference_table(compare(runs, 0, classes=CITYSCAPES.classes))),
        readable(ap),
    ):
        lines = to_markdown(view).splitlines()
        assert len(lines) == len(view) + 2
        assert len({len(line) for line in lines}) == 1
        assert lines[0].count("|") == len(view.columns) + 1
    assert f"{100 * ap['ap'][0]:.1f}" in to_markdown(ap_view(ap))
    assert (
        to_markdown(pd.DataFrame({"n": [12345], "ratio": [1.5], "ap": [np.nan]})).splitlines()[2]
        == f"| 12,345 |  1.50 |   {MISSING} |"
    )
    assert to_markdown(pd.DataFrame({"prompt": ["a|b"]})).splitlines()[2] == "| a\\|b   |"


def test_instance_view_stands_side_by_side() -> None:
    table = instance_table({"real": samples(0), "diffinpainting": samples(6)}, ("car", "bus"), labels=CITYSCAPES)
    view = instance_view(table)
    assert list(view.columns) == ["class", "original", "diffinpainting", "diffinpainting ratio"]
    assert view.iloc[0].tolist() == ["car", "12", "18", "1.50"]
    assert view.iloc[1].tolist() == ["bus", "0", "6", MISSING]


def test_numbers_are_known_from_words() -> None:
    assert all(map(is_number, ["1,234", "+0.3", f"{MINUS}0.3", MISSING, "4.2"]))
    assert not any(map(is_number, ["real", "", "+x"]))


def test_parts_are_paired_like_the_whole(runs: list[Run]) -> None:
    parts = part_table(compare(runs, seed=1, classes=CITYSCAPES.classes)).set_index("part")
    table = ap_table(runs, classes=CITYSCAPES.classes).set_index("arm")
    classes = [f"class {name}" for name in CITYSCAPES.classes]
    assert list(parts.index) == [*classes, "size small", "size medium", "size large"]
    for name in CITYSCAPES.classes:
        expected = table[f"ap50_{name}"]["zoom_crop"] - table[f"ap50_{name}"]["real"]
        assert parts["difference"][f"class {name}"] == pytest.approx(expected)
    small = table["coco_ap_small"]
    assert parts["difference"]["size small"] == pytest.approx(small["zoom_crop"] - small["real"])
    assert parts.loc["size small", "low"] < parts.loc["size small", "difference"] < parts.loc["size small", "high"]


@pytest.mark.slow
def test_maps_are_resampled_too() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 9, (2, FRAMES, 19, 4)).astype(float)
    pixels = np.sort(rng.integers(1, 99, (2, FRAMES, 19, 2)), axis=-1).astype(float)
    base = [scored(arm, 1) for arm in ("real", "zoom_crop")]
    runs = [replace(run, panoptic=counts[n], semantic=pixels[n]) for n, run in enumerate(base)]
    [row] = difference_table(compare(runs, seed=0, classes=CITYSCAPES.classes)).to_dict("records")
    table = ap_table(runs, classes=CITYSCAPES.classes).set_index("arm")
    for metric in ("pq", "miou"):
        assert row[metric] == pytest.approx(table[metric]["zoom_crop"] - table[metric]["real"])
        assert row[f"{metric}_low"] < row[metric] < row[f"{metric}_high"]
    sums = pixels[0].sum(0)
    assert table["miou"]["real"] == pytest.approx((sums[:, 0] / sums[:, 1]).mean())


@pytest.mark.slow
def test_shares_of_the_labels_are_compared_with_their_own_baseline() -> None:
    runs = [replace(scored(arm, seed), percent=percent) for percent in (100, 10) for arm, seed in _ARMS]
    table = difference_table(compare(runs, seed=0, classes=CITYSCAPES.classes))
    assert list(zip(table["percent"], table["arm"], table["baseline"], strict=True)) == [
        (percent, *pair) for percent in (100, 10) for pair in (("zoom_crop", "real"),)
    ]
    assert difference_view(table)["labels"].tolist() == ["100 %", "10 %"]
    assert "with 10 % of the labelled frames" in verdict(table)


_ARMS = (("real", 1), ("zoom_crop", 2))


def test_where_coco_leads_classes_and_the_best_are_by_its_protocol(runs) -> None:
    classes = CITYSCAPES.classes
    table = ap_table(runs, classes, "coco_ap").set_index("arm")
    for arm in ("real", "zoom_crop"):
        per_class = [coco_scores(run.coco, classes).per_class.set_index("class_name") for run in runs if run.arm == arm]
        assert table.loc[arm, "ap50_car"] == pytest.approx(np.mean([found.loc["car", "ap50"] for found in per_class]))
    comparison = compare(runs, 0, classes, lead="coco_ap")
    [row] = difference_table(comparison).to_dict("records")
    assert row["coco_ap50"] == pytest.approx(table.loc["zoom_crop", "coco_ap50"] - table.loc["real", "coco_ap50"])
    assert row["coco_ap50_low"] <= row["coco_ap50"] <= row["coco_ap50_high"]
    assert row["best_ap50"] == pytest.approx(table["coco_ap50"].max())
    parts = part_table(comparison).set_index("part")
    assert parts.loc["class car", "difference"] == pytest.approx(
        table.loc["zoom_crop", "ap50_car"] - table.loc["real", "ap50_car"]
    )
    assert len(parts) == len(classes) + 3


def test_a_protocol_that_is_named_leads() -> None:
    other = LabelTable((Label("cone", 1, True, False, (0, 0, 0)),))
    assert [leading_metric(CITYSCAPES, given) for given in (None, "coco", "cityscapes")] == ["ap", "coco_ap", "ap"]
    assert [leading_metric(other, given) for given in (None, "coco", "cityscapes")] == ["coco_ap", "coco_ap", "ap"]
