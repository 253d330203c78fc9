"""An IO manager that refuses, because the store owns all data and Dagster's default would pickle return values."""

from __future__ import annotations

from typing import Any

import dagster as dg


class NoPickles(dg.IOManager):
    """Takes the place of Dagster's own IO manager, and refuses every output and input."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        raise TypeError(f"{context.step_key} returned a {type(obj).__name__}; write it to the store and return nothing")

    def load_input(self, context: dg.InputContext) -> Any:
        raise TypeError("an op requests an input from Dagster; read it from the store")
