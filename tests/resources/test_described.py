"""Resources as the UI shows them."""

from __future__ import annotations

import dagster as dg

from resources import build_resources
from resources.described import described
from tests.assets.test_graph import settings_for


def test_every_resource_says_what_it_is_and_what_it_was_built_from(tmp_path):
    settings = settings_for(tmp_path, device="cpu")
    built = build_resources(settings)
    shown = described(built, settings)
    assert shown.keys() == built.keys()
    for name, definition in shown.items():
        if name == "io_manager":
            continue
        assert isinstance(definition, dg.ResourceDefinition)
        assert len(definition.description) > 10, name
        with dg.build_init_resource_context() as context:
            assert definition(context) is built[name]
    assert '- device: `"cpu"`' in shown["device"].description
    assert "- workers.memory_gb: `" in shown["device"].description
    assert "min_area" not in shown["dataset"].description
