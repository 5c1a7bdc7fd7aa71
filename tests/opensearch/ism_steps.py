"""Index State Management as a clockwork: what a policy does to a data stream, one step a run, without a server.

The semantics are those seen on a running node with the plugin built for 3.4.0: every run of an index's job does one
step; a state's actions run first, one after the other, then its transitions are looked at; the minimums of a rollover
are or-ed; ``min_rollover_age`` fails the step on an index that was not rolled over; a write index cannot be deleted, and
a step that failed is tried again at the next runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MINUTE = 1
DAY = 24 * 60
"""Time is counted in minutes."""


@dataclass
class Index:
    """One backing index and how far its policy has come with it."""

    created: int
    next_run: int
    events: list[int] = field(default_factory=list)
    rolled_over: int | None = None
    state: str = ""
    action: int = 0
    failures: int = 0


def minutes(text: str) -> int:
    return int(text[:-1]) * {"m": MINUTE, "h": 60, "d": DAY}[text[-1]]


class Clockwork:
    """A stream under a policy; ``gone`` holds (event, when it was deleted)."""

    def __init__(self, policy: dict[str, Any], runs: list[int]) -> None:
        """Take the minutes between one run and the next, over and over, from *runs*."""
        self._states = {state["name"]: state for state in policy["states"]}
        self._default = policy["default_state"]
        self._runs = runs
        self._ran = 0
        self.indices: list[Index] = []
        self.gone: list[tuple[int, int]] = []
        self._open(0)

    def receive(self, at: int) -> None:
        self.indices[-1].events.append(at)

    def pass_until(self, end: int) -> None:
        while (index := min(self.indices, key=lambda index: index.next_run)).next_run <= end:
            now = index.next_run
            index.next_run = now + self._pause()
            self._step(index, now)

    def _pause(self) -> int:
        self._ran += 1
        return self._runs[self._ran % len(self._runs)]

    def _open(self, now: int) -> None:
        self.indices.append(Index(now, now + self._pause(), state=self._default))

    def _step(self, index: Index, now: int) -> None:
        state = self._states[index.state]
        if index.action < len(state["actions"]):
            self._act(index, state["actions"][index.action], now)
            return
        for transition in state["transitions"]:
            met = self._is_met(index, transition["conditions"], now)
            if met is None:
                index.failures += 1
                return
            if met:
                index.state, index.action = transition["state_name"], 0
                return

    def _is_met(self, index: Index, conditions: dict[str, str], now: int) -> bool | None:
        [(kind, value)] = conditions.items()
        if kind == "min_index_age":
            return now - index.created >= minutes(value)
        assert kind == "min_rollover_age", kind
        return None if index.rolled_over is None else now - index.rolled_over >= minutes(value)

    def _act(self, index: Index, action: dict[str, Any], now: int) -> None:
        if "rollover" in action:
            if index.rolled_over is not None:
                index.action += 1
            elif self._wants_rollover(index, action["rollover"], now):
                index.rolled_over = now
                index.action += 1
                self._open(now)
        elif "delete" in action:
            if index.rolled_over is None:
                index.failures += 1
                return
            self.indices.remove(index)
            self.gone += [(event, now) for event in index.events]

    def _wants_rollover(self, index: Index, minimums: dict[str, str], now: int) -> bool:
        # Every event of this stream is small: no size is ever reached.
        return "min_index_age" in minimums and now - index.created >= minutes(minimums["min_index_age"])
