"""The doctor: looks at everything the promises rest on, and says what is weaker than it could be.

Nothing is changed, and no event is written into a trail that could never let go of it; what the credentials may do is
tried on what does not exist.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from audit_logging._version import DISTRIBUTION, FOREIGN_DISTRIBUTION
from audit_logging.errors import CredentialsError, OpenSearchError, SettingsError, UnreachableError
from audit_logging.opensearch.backing_indices import read_index_states
from audit_logging.opensearch.capabilities import OLDEST_SUPPORTED, Capabilities, server_time
from audit_logging.opensearch.check import Check
from audit_logging.opensearch.client import Client
from audit_logging.opensearch.disk import check_spool
from audit_logging.opensearch.holds import kept_indices
from audit_logging.opensearch.ism import explain
from audit_logging.opensearch.rights import check_rights
from audit_logging.opensearch.setup import NO_ISM, NOT_APPEND_ONLY, plan_setup, read_stream
from audit_logging.opensearch.signing import check_signing
from audit_logging.opensearch.templates import policy_name
from audit_logging.settings import unknown_variables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from audit_logging.opensearch.setup import Stream
    from audit_logging.opensearch.steps import Step
    from audit_logging.settings import Settings

GREATEST_SKEW_SECONDS = 5.0
"""Difference between two clocks from which on a time range of a search misses events that belong in it."""

_SET_UP = "Run `audit-logging setup`."
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found.

    Attributes:
        checks: Every finding, in the order in which an event would meet its cause.
        answered: Whether OpenSearch answered and accepted the credentials; True also when it could not be asked.
    """

    checks: tuple[Check, ...]
    answered: bool

    @property
    def problems(self) -> tuple[Check, ...]:
        """The findings that break a promise."""
        return tuple(check for check in self.checks if check.verdict == "problem")


def diagnose(settings: Settings) -> Diagnosis:
    """Look at the spool's place, the server, the stream and its retention; change nothing.

    Never raises for what it finds: that is what the checks are for.

    Example:
        >>> from audit_logging.settings import Settings
        >>> [check.name for check in diagnose(Settings.load()).problems]  # doctest: +SKIP
        ['server']
    """
    checks = [*_installation(), *_environment(), *check_spool(settings), check_signing(settings), *_transport(settings)]
    try:
        client = Client(settings)
    except SettingsError as error:  # no URL, or files for TLS that cannot be used
        return Diagnosis((*checks, Check("server", "problem", str(error))), answered=True)
    try:
        able = Capabilities.probe(client)
        checks.append(_server(able, settings))
        checks += _trail(client, settings, able)
        checks.append(check_rights(client, settings.stream, able))
        checks.append(_clock(client))
    except UnreachableError as error:
        return Diagnosis((*checks, Check("server", "problem", str(error))), answered=False)
    except CredentialsError as error:
        return Diagnosis((*checks, Check("credentials", "problem", str(error))), answered=False)
    except OpenSearchError as error:
        checks.append(Check("server", "problem", str(error)))
    finally:
        client.close()
    return Diagnosis(tuple(checks), answered=True)


def _installation() -> Iterator[Check]:
    with suppress(PackageNotFoundError):
        foreign = distribution(FOREIGN_DISTRIBUTION)
        yield Check(
            "installation",
            "problem",
            f"The distribution {FOREIGN_DISTRIBUTION} {foreign.version} is installed too. It has the same import name,"
            " so its files and ours overwrite each other.",
            f"Run `pip uninstall {FOREIGN_DISTRIBUTION}`, then reinstall {DISTRIBUTION}.",
        )


def _environment() -> Iterator[Check]:
    for name, meant in unknown_variables().items():
        hint = f"Did you mean {meant}?" if meant else "Remove it, unless another program uses it."
        yield Check("environment", "warning", f"The variable {name} is not a setting and is ignored.", hint)


def _transport(settings: Settings) -> Iterator[Check]:
    open_urls = [
        url for url in settings.opensearch_url if url.startswith("http:") and urlsplit(url).hostname not in _LOOPBACK
    ]
    if open_urls:
        what = "Events and the password travel" if settings.opensearch_username else "Events travel"
        yield Check("transport", "warning", f"{what} unencrypted to {', '.join(open_urls)}.", "Use https.")


def _server(able: Capabilities, settings: Settings) -> Check:
    where = ", ".join(settings.opensearch_url)
    if able.version is not None and able.version < OLDEST_SUPPORTED:
        oldest = ".".join(map(str, OLDEST_SUPPORTED[:2]))
        return Check(
            "server",
            "warning",
            f"{able.release} answers at {where}; it cannot make a trail append-only.",
            f"Upgrade to {oldest} or newer.",
        )
    if able.single_node:
        return Check(
            "server",
            "warning",
            f"{able.release} answers at {where}; with one data node it keeps a single copy of every event.",
            "Add a second data node; the copies then appear by themselves.",
        )
    return Check("server", "ok", f"{able.release} answers at {where}.")


def _trail(client: Client, settings: Settings, able: Capabilities) -> Iterator[Check]:
    try:
        stream = read_stream(client, settings.stream)
        # Somebody who set up with --no-append-only hears of that once, and not of every template that lacks it.
        append_only = stream is None or stream.append_only
        plan = plan_setup(client, settings, able, append_only=append_only)
        yield from _set_up(plan.steps)
        if stream is not None:
            yield _health(stream)
            yield _append_only(stream)
            yield from _unreadable(client, stream)
            yield _retention(client, stream, able)
    except CredentialsError as error:
        remedy = "Run the doctor with the role that sets up the stream to see the rest."
        yield Check("stream", "skipped", str(error), remedy)
    except UnreachableError:
        raise
    except SettingsError as error:  # the public keys, by which the trail is believed
        yield Check("signing", "problem", str(error))
    except OpenSearchError as error:
        yield Check("stream", "problem", str(error))


def _set_up(steps: Iterable[Step]) -> Iterator[Check]:
    for step in steps:
        subject = f"The {step.what} {step.name!r}"
        if step.outcome == "unchanged":
            yield Check(step.what, "ok", f"{subject} is as it should be.{f' ({step.detail})' if step.detail else ''}")
        elif step.outcome == "created":
            yield Check(step.what, "problem", f"{subject} does not exist.", _SET_UP)
        elif step.outcome == "updated":
            yield Check(step.what, "warning", f"{subject} is not up to date.", _SET_UP)


def _health(stream: Stream) -> Check:
    name, sentence = "stream health", f"The stream {stream.name!r} is {stream.health}."
    if stream.health == "red":
        remedy = "Events cannot all be written or found: look at GET _cluster/allocation/explain."
        return Check(name, "problem", sentence, remedy)
    if stream.health == "yellow":
        return Check(name, "warning", sentence, "A copy is missing: look at GET _cluster/allocation/explain.")
    return Check(name, "ok", sentence)


def _append_only(stream: Stream) -> Check:
    if stream.append_only:
        return Check("append-only", "ok", f"{stream.write_index} refuses every change to what is in it.")
    return Check("append-only", "warning", NOT_APPEND_ONLY, "Run `audit-logging setup` without --no-append-only.")


def _unreadable(client: Client, stream: Stream) -> Iterator[Check]:
    states = read_index_states(client, stream.name)
    if closed := [name for name, state in states.items() if state.closed]:
        sentence = f"These are closed, so that no search of the stream is answered: {', '.join(closed)}."
        yield Check("backing indices", "problem", sentence, "Open them: POST /<index>/_open.")
    if blocked := [name for name, state in states.items() if state.blocked]:
        sentence = f"The metadata of these is blocked, so that the stream cannot roll over: {', '.join(blocked)}."
        yield Check("backing indices", "problem", sentence, "Take index.blocks.metadata off.")


def _retention(client: Client, stream: Stream, able: Capabilities) -> Check:
    if not able.ism:
        return Check("retention", "warning", NO_ISM)
    kept = kept_indices(client, stream.name, stream.backing_indices)
    managed = list(explain(client, [name for name in stream.backing_indices if name not in kept]))
    troubled = [f"{index.index}: {index.trouble}" for index in managed if index.trouble]
    if troubled:
        remedy = "Mend the cause, then POST _plugins/_ism/retry/<index> goes on."
        return Check("retention", "problem", f"Retention does not get on: {'; '.join(troubled)}.", remedy)
    ours = policy_name(stream.name)
    others = [f"{index.index} ({index.policy})" for index in managed if index.policy not in {None, ours}]
    if others:
        remedy = "It may delete them early: POST _plugins/_ism/remove/<index>, then `audit-logging setup`."
        return Check("retention", "problem", f"These follow another policy: {', '.join(others)}.", remedy)
    bare = [index.index for index in managed if index.policy is None]
    if bare:
        return Check("retention", "problem", f"These will never expire: {', '.join(bare)}.", _SET_UP)
    but = f" but {len(kept)} that are kept (`audit-logging retention verify` says why)" if kept else ""
    return Check("retention", "ok", f"All {len(managed)} backing indices expire by themselves{but}.")


def _clock(client: Client) -> Check:
    """Compare the clocks."""
    before = time.time()
    there = server_time(client)
    after = time.time()
    if there is None:
        return Check("clock", "skipped", "The server does not tell its time, or not this role.")
    # What the answer's way may explain is no skew.
    skew = max(before - there, there - after, 0.0)
    if skew > GREATEST_SKEW_SECONDS:
        return Check(
            "clock",
            "warning",
            f"This machine's clock and the server's differ by {skew:.0f} seconds.",
            "Let both follow the same time servers.",
        )
    return Check("clock", "ok", "This machine's clock agrees with the server's.")
