"""Phase 2: a generator repaints the selected instances inside their masks."""

from __future__ import annotations

from typing import Any

import dagster as dg

from assets.shared.partitions import Graph
from assets.shared.pictures import PREVIEWED_CROPS, crops_preview
from assets.shared.stored import Made, stored_asset
from instsynth_dagster.artifacts.store import PartitionWriter, Store
from instsynth_dagster.graph import drawn_replicas
from instsynth_dagster.settings import Settings
from instsynth_dagster.synthesis.generators.base import repaint
from resources.generators import Generators


def build(settings: Settings, graph: Graph) -> list[dg.AssetsDefinition]:
    return [_inpainted_crops(name, settings, graph) for name in settings.generators]


def _inpainted_crops(name: str, settings: Settings, graph: Graph) -> dg.AssetsDefinition:
    @stored_asset(graph[f"{name}/inpainted_crops"], graph, group="phase_2", kinds={"diffusers", "pytorch"})
    def inpainted_crops(out: PartitionWriter, partition: str, store: Store, generators: Generators) -> Made:
        """Selected instances repainted by a diffusion model inside their own masks (InstSynth phase 2).

        Seeds come from content (instance, prompt, generator, replica, base seed), so a killed run goes on with the
        next crop and ends with the same digest. Rows carry full provenance.
        """
        selected = store.read_lightly("selected_instances", partition)
        bank = store.read("prompt_bank", partition.split("|")[1])
        shown: list[dict[str, Any]] = []
        if len(selected):
            rows = repaint(
                generators[name],
                name,
                selected,
                bank,
                settings.generators[name],
                settings.seed,
                replicas=drawn_replicas(settings, name),
                skip=out.resumed_rows,
                meter=out.meter,
            )
            for row in rows:
                out.add(row)
                if len(shown) < PREVIEWED_CROPS:
                    shown.append(row)
            out.meter.check_refused()
        out.summary["crops"] = out.rows
        metadata: dict[str, Any] = {"seconds_per_crop": round(out.device_seconds / max(out.rows, 1), 3)}
        if shown:
            metadata["licence_of_published_weights"] = generators[name].capabilities.licence
            metadata["preview"] = crops_preview(shown, "image_png")
        return Made(metadata)

    return inpainted_crops
