"""A partition that is gone on with after an interruption reports what an undisturbed one reports."""

from __future__ import annotations

import dagster as dg
import pytest

from assets.shared.made import Made
from instsynth_dagster.artifacts.writer import PIECE, PartitionWriter
from instsynth_dagster.errors import UserError
from tests.assets.test_few_labels import SISEG
from tests.assets.test_refined import FEATURES
from tests.jobs.test_partial import Spied

STREAMING = (
    "selected_instances",
    "diffinpainting/inpainted_crops",
    "diffinpainting/is_cityscapes",
    "zoom_crop/is_cityscapes",
    "diffinpainting/refined_pseudo_labels",
    "instances_from_semantics",
)
"""Assets that add row by row, so that they go on after the last row of an interrupted run."""
DIFFERENT = {PIECE, "seconds_per_crop", "folder", "reported"}
"""Of two runs in two places."""


class Reports:
    """Summary, metadata and checks of every partition that is made, and an interruption where it is asked for."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.found: dict[tuple[str, str], tuple] = {}
        self.resumed: set[str] = set()
        self.stop_in = ""
        made: list[Made] = []
        init, commit, add = Made.__init__, PartitionWriter._commit, PartitionWriter.add

        def noted(own, *args, **options) -> None:
            init(own, *args, **options)
            made.append(own)

        def committed(out) -> None:
            commit(out)
            if out.resumed_rows:
                self.resumed.add(out.asset)
            summary, metadata = (
                {name: str(value) for name, value in values.items() if name not in DIFFERENT}
                for values in (out.summary, made[-1].metadata)
            )
            self.found[out.asset, out.partition] = summary, metadata, made[-1].checks

        def added(out, row) -> None:
            if out.asset == self.stop_in and out.rows == 1:
                self.stop_in = ""
                raise UserError("stopped")
            add(out, row)

        patch.setattr(Made, "__init__", noted)
        patch.setattr(PartitionWriter, "_commit", committed)
        patch.setattr(PartitionWriter, "add", added)


@pytest.mark.slow
def test_resumed_partitions_report_the_same(tmp_path, monkeypatch) -> None:
    reports = Reports(monkeypatch)

    def project(name: str) -> Spied:
        made = Spied(tmp_path / name, monkeypatch)
        made.raw |= {
            "refinement": {"features": FEATURES, "support_frames": 2},
            "arms": ["real", "zoom_crop", "diffinpainting"],
            "semantics": {"segmenter": SISEG, "cities": ["ashford"]},
            "segmenters": {},
            "judge": None,
        }
        return made

    project("whole").edited()
    whole, reports.found = reports.found, {}
    assert not reports.resumed
    disturbed = project("disturbed")
    for asset in STREAMING:
        reports.stop_in = asset
        with pytest.raises(dg.Failure, match="stopped"):
            disturbed.edited()
    disturbed.edited()
    assert reports.resumed == set(STREAMING)
    assert reports.found.keys() == whole.keys()
    for ref, report in whole.items():
        assert reports.found[ref] == report, ref
