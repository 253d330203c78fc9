"""Words for the light of each frame, for templates with {lighting}."""

from __future__ import annotations

from collections import Counter
from typing import Any

from assets.shared.declaration import artifact
from assets.shared.made import Made
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.graph.refs import all_cities
from instsynth_dagster.synthesis.lighting import lighting_words
from resources.dataset import Dataset


@artifact(
    "lighting",
    code_version="1",
    when=lambda settings: any(settings.prompts[name].wants("lighting") for name in settings.classes),
    # cities other than train cities are repainted only for anonymisation
    dimensions=lambda settings: {"city": all_cities(settings) if settings.anonymise else settings.dataset.train_cities},
    settings=["dataset.root"],
    reads=lambda at: [("frames", at["city"])],
    group="phase_2",
    kinds={"opencv"},
)
def lighting(out: PartitionWriter, city: str, store: DeclaredStore, dataset: Dataset) -> Made:
    """The text for {lighting} in templates for each frame, from the statistics of its pixels."""
    frames = store.read("frames", city).set_index("frame_id", drop=False)
    for frame_id, frame in list(frames.iterrows())[out.resumed_rows :]:
        out.add({"frame_id": frame_id, "lighting": lighting_words(dataset.image(frame))})
    counted: dict[str, Any] = dict(Counter(row["lighting"] for row in out.stored_rows(["lighting"])))
    out.summary["frames"] = len(frames)
    return Made(counted)
