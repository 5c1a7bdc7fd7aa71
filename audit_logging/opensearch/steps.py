"""One step of a set-up: what is there, what should be, and the requests that lead from one to the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from audit_logging.errors import OpenSearchError, RefusedError
from audit_logging.opensearch.templates import MANAGER

if TYPE_CHECKING:
    from audit_logging.opensearch.client import Client, Params

Outcome = Literal["created", "updated", "unchanged", "left out"]


@dataclass(frozen=True)
class Request:
    """One request to the server; what a dry run shows and a real run sends."""

    method: str
    path: str
    body: dict[str, Any] | None = None
    params: Params | None = None

    def send(self, client: Client) -> None:
        """Send it.

        Raises:
            OpenSearchError: The server refused it, as a whole or in part, or did not acknowledge it in time.
        """
        what = f"{self.method} {self.path}"
        answer = client.request(self.method, self.path, params=self.params, body=self.body)
        if not isinstance(answer, dict):
            return
        if answer.get("acknowledged") is False:
            raise OpenSearchError(f"OpenSearch did not acknowledge {what} in time: run the set-up again.")
        # Index State Management answers 200 and lists what it did not do.
        if answer.get("failures") is True and (undone := self.undone(client, answer)):
            raise OpenSearchError(f"OpenSearch did {what} only in part ({'; '.join(undone)}): run the set-up again.")

    def undone(self, client: Client, answer: dict[str, Any]) -> list[str]:
        """Return what *answer* lists as not done, in words."""
        del client
        return [f"{item['index_name']}: {item['reason']}" for item in answer.get("failed_indices") or ()]


@dataclass(frozen=True)
class Step:
    """What became (or, in a dry run, would become) of one thing that the stream needs.

    Attributes:
        what: The kind of thing, for people: ``"index template"``.
        name: Its name on the server.
        outcome: ``"created"``, ``"updated"``, ``"unchanged"`` or ``"left out"``.
        detail: Why, where that is not obvious.
        requests: What it took.
        otherwise: What it takes where the server refuses *requests* as impossible (400).
    """

    what: str
    name: str
    outcome: Outcome
    detail: str = ""
    requests: tuple[Request, ...] = ()
    otherwise: tuple[Request, ...] = ()

    def apply(self, client: Client) -> None:
        """Send the requests. Doing it twice is harmless."""
        try:
            for request in self.requests:
                request.send(client)
        except RefusedError as error:
            if error.status != 400 or not self.otherwise:  # noqa: PLR2004
                raise
            for request in self.otherwise:
                request.send(client)


def step_for(  # the one rule for everything that carries a version
    what: str,
    name: str,
    *,
    wanted: dict[str, Any],
    present: dict[str, Any] | None,
    put: Request,
) -> Step:
    """Decide what to do about one versioned thing: create, update, leave, or refuse to touch.

    Args:
        what: The kind of thing, for people.
        name: Its name on the server.
        wanted: What should be there, with ``version`` and ``_meta.managed_by``.
        present: What is there, in the same shape, or None.
        put: The request that makes it so.

    Raises:
        OpenSearchError: What is there is newer than this library, or was not made by it.
    """
    if present is None:
        return Step(what, name, "created", requests=(put,))
    if (present.get("_meta") or {}).get("managed_by") != MANAGER:
        raise OpenSearchError(
            f"There is already another {what} {name!r} that audit-logging did not make: rename or delete it, or choose"
            " another stream with --stream (or AUDIT_STREAM)."
        )
    have, want = int(present.get("version") or 0), int(wanted["version"])
    if have > want:
        raise OpenSearchError(
            f"The {what} {name!r} is of version {have}, newer than this audit-logging knows ({want}): upgrade"
            " audit-logging here, for an older one must not set back what a newer one set up."
        )
    if present == wanted:
        return Step(what, name, "unchanged")
    detail = f"from version {have} to {want}" if have < want else "it differed from what it should be"
    return Step(what, name, "updated", detail, requests=(put,))


@dataclass(frozen=True)
class SetupReport:
    """What a set-up did, or in a dry run would do.

    Attributes:
        stream: The data stream.
        dry_run: Whether nothing was changed.
        steps: Every thing the stream needs, in the order in which OpenSearch needs them.
        notes: Sentences for the operator: what is missing and what follows from it.
    """

    stream: str
    dry_run: bool
    steps: tuple[Step, ...]
    notes: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether anything was (in a dry run: would be) created or updated."""
        return any(step.outcome in {"created", "updated"} for step in self.steps)
