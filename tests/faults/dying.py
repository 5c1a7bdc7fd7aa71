"""How a program under test dies: killed at the n-th of the steps that leave something behind."""

from __future__ import annotations

import os
import signal
import sys
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection


def die_at(step: int, steps: Collection[str]) -> None:
    """Kill this process before the *step*-th of the audit events *steps* from now on (``sys.addaudithook``)."""
    passed = count(1)

    def watch(event: str, _: Any) -> None:
        if event in steps and next(passed) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
