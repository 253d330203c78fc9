"""Columns are described for the UI."""

from __future__ import annotations

import pytest

from assets.shared.columns import describe_column
from tests.assets.test_graph import Project


def test_names_and_patterns_are_described():
    assert describe_column("frame_id") == "id of the frame, which its files begin with"
    assert describe_column("instances_car") == "instances of class car"
    assert describe_column("novel_ap50") == "ap50 of the novel classes"
    assert describe_column("nobody_said") is None


@pytest.mark.slow
def test_every_column_up_to_the_training_sets_is_described(tmp_path):
    project = Project(tmp_path)
    project.refresh()
    columns = {
        name: key
        for key, partition in project.partitions(project.graph)
        for name, _ in project.store.columns(key, partition)
    }
    assert {name: key for name, key in columns.items() if describe_column(name) is None} == {}
