"""Table IV: how good the generators' pictures are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import dagster as dg
import pandas as pd

from assets.shared.partitions import Graph
from assets.shared.pictures import sheet_preview
from assets.shared.stored import Made, stored_asset
from instsynth_dagster.artifacts.store import PartitionWriter, Store
from instsynth_dagster.data.images import decode_png, encode_png, resize_image
from instsynth_dagster.data.masks import decode_rle, resize_mask
from instsynth_dagster.evaluation.metrics.image_quality import Pair, image_quality
from instsynth_dagster.evaluation.report.side_by_side import SIDE_BY_SIDE, side_by_side
from instsynth_dagster.evaluation.tables.views import quality_view, to_markdown
from instsynth_dagster.settings import Settings
from resources.judge import Judge


def build(settings: Settings, graph: Graph) -> list[dg.AssetsDefinition]:
    judged = settings.judge
    if "image_quality" not in graph or judged is None:
        return []

    @stored_asset(graph["image_quality"], graph, group="evaluation", kinds={"transformers"})
    def image_quality_table(out: PartitionWriter, _: str, store: Store, judge: Judge) -> Made:
        """CLIPScore, FID, SSIM and PSNR of each generator (Table IV): in the paper's definition, which rewards changing
        nothing, and honestly (text against image, inside and outside the mask, diversity)."""
        partitions = graph["selected_instances"].partitions
        rows = [
            {"generator": name}
            | image_quality(pairs(store, name, partitions), judge.clip, judge.fid_features, judged.cut_out)
            for name in settings.generators
        ]
        table = pd.DataFrame(rows)
        out.add_table(table)
        sheet = side_by_side(store, list(settings.generators), partitions)
        (out.folder("pictures") / SIDE_BY_SIDE).write_bytes(encode_png(sheet))
        return Made({"table_4": dg.MetadataValue.md(to_markdown(quality_view(table))), "preview": sheet_preview(sheet)})

    return [image_quality_table]


def pairs(store: Store, generator: str, partitions: Sequence[str]) -> Iterator[Pair]:
    """First replicas of a generator's crops beside their sources, at the generator's size."""
    for partition in partitions:
        selected = {row["instance_id"]: row for row in store.iterate("selected_instances", partition)}
        for crop in store.iterate(f"{generator}/inpainted_crops", partition):
            if crop["replica"]:
                continue
            row, painted = selected[crop["instance_id"]], decode_png(crop["image_png"])
            source = decode_png(row["crop_png"])
            mask = decode_rle({"size": list(source.shape[:2]), "counts": row["mask_counts"]})
            side = len(painted)
            yield Pair(
                crop["class_name"],
                crop["prompt"],
                resize_image(source, (side, side)),
                painted,
                resize_mask(mask, side),
            )
