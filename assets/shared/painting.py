"""The common part of assets that repaint instances and score the repaintings."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import pandas as pd

from assets.shared.made import Made
from assets.shared.pictures import PREVIEWED_CROPS, crops_preview, gates_preview
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.settings import GateSettings, GeneratorSettings
from instsynth_dagster.synthesis.gates import SCORES, gate_scores
from instsynth_dagster.synthesis.generators.base import repaint
from instsynth_dagster.synthesis.prompts import placeholders
from resources.generators import Generators

if TYPE_CHECKING:
    from instsynth_dagster.models.clip import Clip


def paint_into(
    out: PartitionWriter,
    generators: Generators,
    generator: str,
    recipe: GeneratorSettings,
    *,
    arm: str,
    selected: pd.DataFrame,
    bank: pd.DataFrame,
    seed: int,
    replicas: int,
) -> Made:
    """Repaint the rows of `selected` that are not in the partition yet; seeds depend on the arm."""
    metadata: dict[str, Any] = {}
    if len(selected):
        loaded = generators.load(generator, recipe)
        tally = generators.tally(generator)
        rows = repaint(
            loaded, arm, selected, bank, recipe, seed, replicas, skip=out.resumed_rows, meter=out.meter, tally=tally
        )
        for row in rows:
            out.add(row)
        out.meter.check_refused()
        metadata["licence_of_published_weights"] = loaded.capabilities.licence
    out.summary["crops"] = out.rows
    metadata["seconds_per_crop"] = round(out.device_seconds / max(out.rows, 1), 3)
    if shown := list(islice(out.stored_rows(["instance_id", "prompt", "image_png"]), PREVIEWED_CROPS)):
        metadata["preview"] = crops_preview(shown, "image_png", out.rows)
    return Made(metadata)


def with_words(selected: pd.DataFrame, bank: pd.DataFrame, store: DeclaredStore) -> pd.DataFrame:
    """The rows with the texts for placeholders in prompts of the bank (`graph.refs.words_for`)."""
    wanted = placeholders(bank["prompt"]) if len(selected) else ()
    for asset, key, words in (("lighting", "frame_id", "lighting"), ("captions", "instance_id", "description")):
        if words in wanted:
            known = store.read_many(asset, store.declared(asset)).set_index(key)[words]
            selected = selected.assign(**{words: known.loc[selected[key]].to_numpy()})
    return selected


def score_into(
    out: PartitionWriter,
    selected: pd.DataFrame,
    crops: pd.DataFrame,
    clip: Clip,
    *,
    cut_out: bool,
    known: tuple[str, ...],
) -> Made:
    """Score the repaintings of one partition, without verdicts."""
    scores = gate_scores(selected, crops, clip, cut_out, known)
    if scores.empty:
        return Made()
    out.add_table(scores)
    out.summary.update({score: round(float(scores[score].mean()), 4) for score in SCORES})
    return Made({"preview": gates_preview(selected, crops, scores, GateSettings())})
