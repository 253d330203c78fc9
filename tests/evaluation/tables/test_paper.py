"""The paper's figures stand beside ours only where the setting is the paper's."""

from pathlib import Path

import pandas as pd
import pytest

from instsynth_dagster.evaluation.tables.paper import TABLE_1, instance_statement, published, result_table, table_title
from instsynth_dagster.evaluation.tables.tables import METRICS
from instsynth_dagster.evaluation.tables.views import MISSING
from instsynth_dagster.settings import load_settings


def tables(segmenter: str, maps: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    row = {"segmenter": segmenter, "percent": 100, "arm": "real", "seeds": 3}
    row |= {metric: 0.25 if maps or "ap" in metric else float("nan") for metric in METRICS}
    row |= {f"{metric}_sd": 0.01 for metric in METRICS}
    ap = pd.DataFrame([row, row | {"arm": "gligen", "ap": 0.31}])
    gain = {"segmenter": segmenter, "percent": 100, "arm": "gligen", "baseline": "real"}
    gain |= {"ap": 0.06, "ap_low": 0.01, "ap_high": 0.11}
    return ap, pd.DataFrame([gain])


def test_a_second_segmenter_has_a_table_of_its_own() -> None:
    settings = load_settings(Path("profiles/paper_demo.yaml"))
    both = [tables(name, maps=name == "oneformer") for name in ("fastinst", "oneformer")]
    ap, gain = (pd.concat(parts, ignore_index=True) for parts in zip(*both, strict=True))
    for name in ("fastinst", "oneformer"):
        table, _ = result_table(ap, gain, name, settings)
        assert table["arm"].tolist() == ["real", "gligen"]
        assert table.notna().all(axis=None)
        assert table["seeds"].tolist() == ["3", "3"]


def test_the_demo_says_why_the_paper_is_not_beside_it() -> None:
    settings = load_settings(Path("profiles/paper_demo.yaml"))
    table, remark = result_table(*tables("fastinst", maps=False), "fastinst", settings)
    assert list(table.columns[:3]) == ["arm", "AP", "AP50"]
    assert table["AP"].tolist() == ["25.0 ± 1.0", "31.0 ± 1.0"]
    assert table["AP against real (95 %)"][1] == "+6.0 (+1.0 to +11.0)"
    assert not [name for name in table if "paper" in name]
    assert "the data (paper: Cityscapes" in remark
    assert "128x256 (paper: 360x720)" in remark
    assert "do not belong" in instance_statement(settings)


@pytest.mark.parametrize("segmenter", ["fastinst", "oneformer_swin_l"])
def test_the_real_setting_has_the_paper_beside_it(segmenter: str) -> None:
    settings = load_settings(Path("profiles/cityscapes.yaml"))
    table, remark = result_table(*tables(segmenter, maps=segmenter != "fastinst"), segmenter, settings)
    theirs = published(settings.segmenters[segmenter])
    assert table["paper AP"].tolist() == [f"{theirs[arm]['ap']:.1f}" for arm in ("real", "gligen")]
    assert ("paper PQ" in table) == (segmenter != "fastinst")
    assert "one training each" in remark
    assert "217,035" in instance_statement(settings)
    assert table_title(segmenter, settings.segmenters[segmenter]).startswith("Table I")


def test_a_share_of_the_labels_has_no_paper_beside_it() -> None:
    settings = load_settings(Path("profiles/cityscapes.yaml"))
    ap, gain = tables("fastinst", maps=False)
    table, _ = result_table(ap.assign(percent=[100, 10]), gain, "fastinst", settings)
    assert table["paper AP"].tolist() == ["27.6", MISSING]


@pytest.mark.parametrize(
    ("segmenter", "changes", "differs"),
    [
        ("oneformer_convnext_l", {}, "the start (paper: a OneFormer trained on Mapillary)"),
        ("fastinst", {"learning_rate": 2e-4}, "the learning rate, 0.0002 (paper: 0.0001)"),
        ("fastinst", {"architecture": {"decoder_layers": 1}}, "the network (paper: FastInst-D3 on a ResNet-50)"),
        ("fastinst", {"model": "checkpoints/mini-fastinst"}, "the network"),
        ("fastinst", {"steps": 600}, "600 steps (paper: 90,000)"),
    ],
)
def test_another_recipe_is_named_and_has_no_paper_beside_it(segmenter: str, changes: dict, differs: str) -> None:
    settings = load_settings(Path("profiles/cityscapes.yaml"))
    recipe = settings.segmenters[segmenter].model_copy(update=changes)
    settings = settings.model_copy(update={"segmenters": {segmenter: recipe}})
    table, remark = result_table(*tables(segmenter, maps=segmenter != "fastinst"), segmenter, settings)
    assert not [name for name in table if "paper" in name]
    assert differs in remark


def test_the_papers_counts_add_up() -> None:
    before, after = zip(*[counts for name, counts in TABLE_1.items() if name != "total"], strict=True)
    assert (sum(before), sum(after)) == TABLE_1["total"]
