"""docs/extending.md, done: an artifact, a generator and a segmenter, each from its own file."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import assets
from instsynth_dagster.errors import SettingsError
from instsynth_dagster.settings import kinds
from tests.assets.test_graph import Project

DOCS = Path(__file__).parents[1] / "docs/extending.md"
BLOCK = re.compile(r"```python\n# (\S+)\n(.*?)```", re.DOTALL)
GENERATORS = {"paint": {"kind": "swapped_colours", "size": 32}}
SEGMENTERS = {"boxes": {"kind": "mean_box", "steps": 1}}


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    """Contents by the path that the documentation gives them."""
    return dict(BLOCK.findall(DOCS.read_text()))


@pytest.fixture
def extended(files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The files where a package finds them, and the two lines of `MODULES`."""
    added = []
    for file, text in files.items():
        place, module = file.rsplit("/", 1)[0].replace("/", "."), file.removesuffix(".py").replace("/", ".")
        folder = tmp_path / place
        folder.mkdir()
        (folder / Path(file).name).write_text(text)
        package = import_module(place)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        added.append(module)
    monkeypatch.setattr(kinds, "MODULES", (*kinds.MODULES, *(name for name in added if not name.startswith("assets."))))
    assets.declarations.cache_clear()
    yield
    assets.declarations.cache_clear()
    for module in added:
        sys.modules.pop(module, None)


def test_the_documentation_has_a_file_of_each_sort(files) -> None:
    assert list(files) == [
        "instsynth_dagster/synthesis/generators/swapped_colours.py",
        "instsynth_dagster/segmenters/mean_box.py",
        "assets/brightness.py",
    ]


@pytest.mark.slow
def test_each_is_made_from_its_own_file_and_edits_make_stale_what_reads_them(extended, tmp_path: Path) -> None:
    project = Project(tmp_path / "project")

    def refreshed(generator: dict | None = None, segmenter: dict | None = None, **changes: object) -> set[str]:
        given = {
            "arms": ["real", "paint"],
            "classes": ["car", "motorcycle"],
            "prompts": {name: {"templates": [f"a photo of a {name}"]} for name in ("car", "motorcycle")},
            "generators": {"paint": GENERATORS["paint"] | (generator or {})},
            "segmenters": {"boxes": SEGMENTERS["boxes"] | (segmenter or {})},
        }
        return {asset for asset, _ in project.refresh(**(given | changes))}

    everything = refreshed()
    assert {"paint/brightness", "paint/is_cityscapes", "trained_segmenters", "report"} <= everything
    crops = project.store.read("paint/inpainted_crops", "ashford|car")
    assert set(crops["generator"]) == {"paint"}
    assert len(project.store.read("paint/brightness", "ashford|car")) == len(crops) > 0
    assert set(project.store.read("segmentation_scores", "real-s0|boxes")["score"]) == {0.5}

    scored = refreshed(segmenter={"score": 0.25})
    assert "segmentation_scores" in scored
    assert "trained_segmenters" not in scored
    again = refreshed({"share": 0.5}, {"score": 0.25, "gain": 0.5})
    assert {"paint/inpainted_crops", "paint/brightness", "trained_segmenters"} <= again
    assert "selected_instances" not in again


def test_a_wrong_knob_is_named(extended, tmp_path: Path) -> None:
    from instsynth_dagster.settings import GeneratorSettings

    with pytest.raises(ValueError, match="share belongs to kind swapped_colours, not to gligen; remove it"):
        GeneratorSettings.model_validate({"kind": "gligen", "model": "x", "share": 1})


def test_without_its_line_a_kind_is_unknown() -> None:
    from instsynth_dagster.segmenters.contract import get_segmenter

    with pytest.raises(SettingsError, match="unknown kind 'nowhere'"):
        get_segmenter("nowhere")
