"""What an edit makes again, on the real graph with a tiny real generator and segmenter: nothing more, nothing less."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from instsynth_dagster.artifacts.manifest import Manifest
from instsynth_dagster.synthesis.generators.pipeline import PipelineGenerator
from tests.assets.test_graph import CLASSES, Project, write_city
from tests.segmenters.toy import tiny
from tests.tiny_pipelines import save_tiny_clip, save_tiny_inpainting

CROPS, WINDOWS = "diffinpainting/inpainted_crops", "diffinpainting/is_cityscapes"
BELOW_WINDOWS = {
    WINDOWS,
    "diffinpainting/export",
    "training_sets",
    "trained_segmenters",
    "segmentation_scores",
    "segmenter_costs",
    "evaluation_tables",
    "report",
}


class Spied(Project):
    """A project whose generator calls are counted by class."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(root)
        self.painted: Counter[str] = Counter()
        model = save_tiny_inpainting(root / "model")
        clip = save_tiny_clip(root / "clip")
        self.raw: dict[str, Any] = {
            "prompts": {name: {"templates": [f"a photo of a {name}"]} for name in CLASSES},
            "generators": {
                "diffinpainting": {
                    "kind": "diffinpainting",
                    "model": str(model),
                    "size": 32,
                    "steps": 1,
                    "guidance": 1.0,
                    "batch_size": 4,
                }
            },
            "judge": {"clip": str(clip), "fid_features": "clip"},
            "arms": ["real", "diffinpainting"],
            "segmenters": {"tiny": tiny(steps=1).model_dump(exclude_unset=True)},
        }
        original = PipelineGenerator.fill

        def fill(generator, images, masks, prompts, subjects, seeds):
            self.painted.update(set(subjects))
            return original(generator, images, masks, prompts, subjects, seeds)

        monkeypatch.setattr(PipelineGenerator, "fill", fill)

    def edited(self, **changes: Any) -> dict[str, set[str]]:
        """Refresh with an edit that stays; the partitions made, by asset."""
        self.painted.clear()
        self.raw |= changes
        made: dict[str, set[str]] = {}
        for asset, partition in self.refresh(**self.raw):
            made.setdefault(asset, set()).add(partition)
        return made


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Iterator[Spied]:
    """One for all tests: what one of them edits stays edited for the next."""
    with pytest.MonkeyPatch.context() as patch:
        spied = Spied(tmp_path_factory.mktemp("project"), patch)
        spied.edited()
        assert set(spied.painted) == {"car", "person", "motorcycle"}
        yield spied


@pytest.mark.slow
def test_edits_make_only_what_reads_them(project):
    assert project.edited() == {}

    prompts = project.raw["prompts"] | {"car": {"templates": ["a photo of an old car"]}}
    made = project.edited(prompts=prompts)
    assert set(project.painted) == {"car"}
    assert made["prompt_bank"] == {"car"}
    assert made[CROPS] == made["diffinpainting/crop_quality"] == {"ashford|car", "birchley|car"}
    assert made["trained_segmenters"] == {"diffinpainting-s0|tiny"}
    assert "selected_instances" not in made

    made = project.edited(gates={"min_change": 2.0})  # no crop can pass: every window changes
    assert not project.painted
    assert set(made) == BELOW_WINDOWS

    made = project.edited(segmenters={"tiny": tiny(steps=1, learning_rate=2e-3).model_dump(exclude_unset=True)})
    assert not project.painted
    changed = {"trained_segmenters", "segmentation_scores", "segmenter_costs", "evaluation_tables", "report"}
    assert set(made) == changed
    assert made["trained_segmenters"] == {"real-s0|tiny", "diffinpainting-s0|tiny"}

    write_city(project.root / "data", "birchley", "train", frames=3)
    made = project.edited()
    assert {key.split("|")[0] for asset in (CROPS, "selected_instances", WINDOWS) for key in made[asset]} == {
        "birchley"
    }
    assert made["frames"] == made["instances"] == {"birchley"}

    before = project.store.manifest(CROPS, "ashford|car")
    shutil.rmtree(project.store.directory(CROPS, "ashford|car"))
    assert project.edited() == {CROPS: {"ashford|car"}}
    assert set(project.painted) == {"car"}
    after = project.store.manifest(CROPS, "ashford|car")
    assert isinstance(before, Manifest)
    assert isinstance(after, Manifest)
    assert after.digest == before.digest


@pytest.mark.slow
def test_a_comment_in_a_params_file_and_another_batch_size_make_nothing(project):
    generator = project.raw["generators"]["diffinpainting"] | {"batch_size": 2}
    assert project.edited(generators={"diffinpainting": generator}) == {}
