"""Says how many bad inputs were tried."""

from __future__ import annotations

from tests.fuzz.oracle import CASES


def pytest_terminal_summary(terminalreporter) -> None:
    if CASES:
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(CASES.items()))
        terminalreporter.write_line(f"fuzz: {CASES.total()} cases ({told})")
