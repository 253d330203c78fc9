"""Dagster's default would pickle what an op returns; here the store owns every byte, and nothing is handed over."""

from __future__ import annotations

from typing import Any

import dagster as dg


class NoPickles(dg.IOManager):
    """Stands where Dagster's own IO manager would, and refuses."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        raise TypeError(f"{context.step_key} returned a {type(obj).__name__}; write it to the store and return nothing")

    def load_input(self, context: dg.InputContext) -> Any:
        raise TypeError("an op asks Dagster for an input; read it from the store")
