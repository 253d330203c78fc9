"""Quality gates: how good each repainted crop is, without a verdict."""

from __future__ import annotations

import dagster as dg

from assets.shared.partitions import Graph
from assets.shared.pictures import sheet_preview
from assets.shared.stored import Check, Made, stored_asset
from instsynth_dagster.artifacts.store import PartitionWriter, Store
from instsynth_dagster.evaluation.report.gate_gallery import gate_sheet
from instsynth_dagster.settings import Settings
from instsynth_dagster.synthesis.gates import SCORES, gate_scores, rejection
from resources.judge import Judge

MIN_ACCEPTED = 0.5
WARNINGS = {"half_accepted": "At least half of the crops pass the gates."}


def build(settings: Settings, graph: Graph) -> list[dg.AssetsDefinition]:
    return [_crop_quality(name, settings, graph) for name in settings.generators] if settings.judge else []


def _crop_quality(name: str, settings: Settings, graph: Graph) -> dg.AssetsDefinition:
    judged = settings.judge
    assert judged is not None

    @stored_asset(graph[f"{name}/crop_quality"], graph, group="phase_2", kinds={"transformers"}, warnings=WARNINGS)
    def crop_quality(out: PartitionWriter, partition: str, store: Store, judge: Judge) -> Made:
        """Scores of every repainted crop: class margin, similarity to other real instances and to its own source,
        change inside the mask, seam. Verdicts follow from thresholds in `is_cityscapes`, so an edited threshold
        repaints nothing.
        """
        selected = store.read_lightly("selected_instances", partition)
        crops = store.read_lightly(f"{name}/inpainted_crops", partition)
        scores = gate_scores(selected, crops, judge.clip, judged.cut_out)
        if scores.empty:
            return Made(checks=(Check("half_accepted", True, "no crops", blocking=False),))
        out.add_table(scores)
        out.summary.update({score: round(float(scores[score].mean()), 4) for score in SCORES})
        rejected = [row for row in scores.to_dict("records") if rejection(row, settings.gates)]
        share = 1 - len(rejected) / len(scores)
        text = f"{partition}: {share:.0%} of {len(scores)} crops pass the gates"
        preview = sheet_preview(gate_sheet(selected, crops, scores, settings.gates))
        return Made(
            {"accepted": share, "preview": preview},
            (Check("half_accepted", share >= MIN_ACCEPTED, text, blocking=False),),
        )

    return crop_quality
