"""Run the command line in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from audit_logging.cli.root import run

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def audit_logging(capsys, monkeypatch) -> Callable[..., Ended]:
    """Call it with the arguments of a command; it returns exit code and output."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: str) -> Ended:
        code = 0
        try:
            run([*arguments])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Ended(code, captured.out, captured.err)

    return call
