"""What Dagster loads, for every params file that is shipped: what `dagster definitions validate` checks."""

from __future__ import annotations

import dagster as dg
import pytest

from instsynth_dagster.definitions import build_definitions
from instsynth_dagster.settings import load_settings
from tests.settings.test_settings import ROOT, SHIPPED


@pytest.mark.parametrize("params", SHIPPED)
def test_dagster_finds_no_fault_in_the_definitions(params, monkeypatch):
    monkeypatch.chdir(ROOT)

    def read():
        return load_settings(ROOT / params)

    dg.Definitions.validate_loadable(build_definitions(read(), read))
