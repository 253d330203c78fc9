"""Table IV: image quality of the generators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from assets.shared.declaration import artifact
from assets.shared.made import Made, Markdown
from assets.shared.pictures import sheet_preview
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.data.images import decode_png, encode_png, resize_image
from instsynth_dagster.data.masks import decode_rle, resize_mask
from instsynth_dagster.evaluation.metrics.image_quality import Pair
from instsynth_dagster.evaluation.metrics.image_quality import image_quality as measured
from instsynth_dagster.evaluation.report.side_by_side import SIDE_BY_SIDE, side_by_side
from instsynth_dagster.evaluation.tables.views import quality_view, to_markdown
from instsynth_dagster.graph import window_generators
from instsynth_dagster.graph.refs import city_classes, each
from instsynth_dagster.settings import Settings
from resources.judge import Judge


@artifact(
    "image_quality",
    code_version="3",
    when=lambda settings: settings.judge and window_generators(settings),
    settings=["judge.clip", "judge.fid_features", "judge.inception_weights", "judge.cut_out"],
    values={
        "generators": lambda at: window_generators(at.settings),
        "known": lambda at: at.settings.labels.classes,
    },
    reads=lambda at: [
        ref
        for asset in ("selected_instances", *(f"{name}/inpainted_crops" for name in window_generators(at.settings)))
        for ref in each(asset, city_classes(at.settings))
    ],
    group="evaluation",
    kinds={"transformers"},
)
def image_quality(
    out: PartitionWriter,
    _: str,
    settings: Settings,
    generators: list[str],
    known: tuple[str, ...],
    store: DeclaredStore,
    judge: Judge,
) -> Made:
    """CLIPScore, FID, SSIM and PSNR of each generator (Table IV) in the paper's definition, which rewards changing
    nothing, and further metrics that do not (text against image, inside and outside the mask, diversity).
    """
    assert settings.judge is not None
    clip, features = judge.clip(settings.judge), judge.fid_features(settings.judge)
    partitions = store.declared("selected_instances")
    rows = [
        {"generator": name} | measured(pairs(store, name, partitions), clip, features, settings.judge.cut_out, known)
        for name in generators
    ]
    table = pd.DataFrame(rows)
    out.add_table(table)
    sheet = side_by_side(store, generators, partitions)
    (out.folder("pictures") / SIDE_BY_SIDE).write_bytes(encode_png(sheet))
    return Made({"table_4": Markdown(to_markdown(quality_view(table))), "preview": sheet_preview(sheet)})


def pairs(store: DeclaredStore, generator: str, partitions: Sequence[str]) -> Iterator[Pair]:
    """First replicas of a generator's crops with their sources, at the generator's size, without failed ones."""
    for partition in partitions:
        selected = {row["instance_id"]: row for row in store.iterate("selected_instances", partition)}
        for crop in store.iterate(f"{generator}/inpainted_crops", partition):
            if crop["replica"] or crop["failure"]:
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
