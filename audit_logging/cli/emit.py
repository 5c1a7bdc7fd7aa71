"""`audit-logging emit`: one event from a shell, a script or a cron job."""

from __future__ import annotations

import json
import logging
import re
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from audit_logging.cli.options import connection_options, json_option, timeout_option
from audit_logging.errors import CredentialsError, NotFoundError, NotIndexedError, OpenSearchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.settings import Settings

EXIT_OPENSEARCH = 3

_PAIR = re.compile(r"(?P<key>.+?)(?P<separator>:=|=)(?P<value>.*)", re.DOTALL)
_FORBIDDEN = 403
_WAITING_IS_TOLD_BY = frozenset({"delivery", "trail"})


@click.command()
@click.argument("event_type", metavar="EVENT_TYPE")
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE | KEY:=JSON]...")
@click.option("--facts", metavar="JSON", help="Keywords as one JSON object; single pairs win over it.")
@click.option(
    "--durability",
    type=click.Choice(["process", "disk", "indexed"]),
    help="What must have happened before this counts as done (default: AUDIT_DURABILITY, else process).",
)
@timeout_option(
    "How long to wait for OpenSearch at the end (default: AUDIT_SHUTDOWN_TIMEOUT_SECONDS, else 10s).", default=None
)
@connection_options
@json_option
def emit(
    *,
    event_type: str,
    pairs: tuple[str, ...],
    facts: str | None,
    durability: str | None,
    timeout_seconds: float | None,
    settings: Settings,
    as_json: bool,
) -> None:
    """Emit one event and print its id.

    EVENT_TYPE is dotted, such as user.login. KEY=VALUE gives a text, KEY:=JSON any JSON; dots in a key lead into
    objects: metadata.order=17. Keys are the keywords of the typed calls; unknown ones become metadata.

    Exits with 0 when OpenSearch has the event; with 3 when it could not be reached, but the event is safe in the spool
    and ships with the next process that uses it; with 4 when the durability asked for could not be kept.

    \b
    Examples:
      audit-logging emit user.login user_id=u-42 source_ip=203.0.113.7 outcome=failure
      audit-logging emit deploy.finished user_id=ci duration_seconds:=41 metadata.commit=4f2a --durability indexed
    """
    from audit_logging.capture.trail import Trail

    keywords = merge(parse_facts(facts), pairs)
    if timeout_seconds is not None:
        given = {"shutdown_timeout_seconds": timeout_seconds, "indexed_timeout_seconds": timeout_seconds}
        settings = settings.model_copy(update=given)
    trail = Trail(settings.model_copy(update={"console": False}))
    problem: str | None = None
    with _shipping_warnings_kept() as warnings:
        try:
            event_id = trail.emit(event_type, keywords, durability)
            problem = why_it_cannot_ship(settings)
        except NotIndexedError as error:
            why = why_it_cannot_ship(settings) or ""
            raise NotIndexedError(f"{error} {why}".rstrip(), event_id=error.event_id, state=error.state) from error
        finally:
            remaining = trail.shutdown(0.0 if problem else settings.shutdown_timeout_seconds)
    if remaining == 0:
        make_findable(settings)
    _report(event_id, settings, remaining, problem or " ".join(warnings[-1:]), as_json=as_json)


def parse_facts(text: str | None) -> dict[str, Any]:
    """Return the object that ``--facts`` holds.

    Raises:
        click.BadParameter: It is no JSON object.
    """
    if text is None:
        return {}
    value = _json(text, "--facts")
    if not isinstance(value, dict):
        raise click.BadParameter('give a JSON object, such as \'{"user_id": "u-42"}\'.', param_hint="--facts")
    return value


def merge(facts: dict[str, Any], pairs: tuple[str, ...]) -> dict[str, Any]:
    """Return *facts* with the *pairs* of the command line over them.

    Raises:
        click.BadParameter: A pair is malformed, given twice, or leads into something that is no object.

    Example:
        >>> merge({"user_id": "u-1"}, ("user_id=u-42", "metadata.size:=3"))
        {'user_id': 'u-42', 'metadata': {'size': 3}}
    """
    given: set[str] = set()
    for pair in pairs:
        match = _PAIR.fullmatch(pair)
        if match is None:
            raise click.BadParameter(f"{pair!r} is no pair: write KEY=VALUE, or KEY:=JSON.", param_hint="pair")
        key, value = match["key"], match["value"]
        if key in given:
            raise click.BadParameter(
                f"{key!r} is given twice; for several values write {key}:='[…]'.", param_hint="pair"
            )
        given.add(key)
        _put(facts, key, _json(value, key) if match["separator"] == ":=" else value)
    return facts


def _put(facts: dict[str, Any], key: str, value: Any) -> None:
    *steps, last = key.split(".")
    node: Any = facts
    for step in steps:
        node = node.setdefault(step, {})
        if not isinstance(node, dict):
            raise click.BadParameter(f"{key!r} leads into {step!r}, which holds a value.", param_hint="pair")
    if isinstance(node.get(last), dict):
        raise click.BadParameter(f"{key!r} would replace what is given below it.", param_hint="pair")
    node[last] = value


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"{text[:80]!r} is not JSON ({error}).", param_hint=name) from None


def why_it_cannot_ship(settings: Settings) -> str | None:
    """Return why there is no use in waiting for the event to arrive, in one sentence."""
    if not settings.opensearch_url:
        return "No OpenSearch is configured (--url, AUDIT_OPENSEARCH_URL)."
    from audit_logging.opensearch.client import Client

    client = Client(settings)
    try:
        client.request("GET", f"/_data_stream/{settings.stream}")
    except NotFoundError:
        return f"The stream {settings.stream!r} is not set up: run `audit-logging setup --stream {settings.stream}`."
    except CredentialsError as error:
        # A writer's role need not be allowed to look.
        return None if error.status == _FORBIDDEN else str(error)
    except OpenSearchError as error:
        return str(error)
    finally:
        client.close()
    return None


def make_findable(settings: Settings) -> None:
    """Let the next command find what was shipped at once, and not in a second; a writer's role need not allow it."""
    from audit_logging.opensearch.client import Client

    client = Client(settings)
    with suppress(OpenSearchError):
        client.request("POST", f"/{settings.stream}/_refresh")
    client.close()


@contextmanager
def _shipping_warnings_kept() -> Iterator[list[str]]:
    """Keep back what the library warns of while events wait, since this command says it itself, once and at its end."""
    kept: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        waiting = record.levelno == logging.WARNING and record.module in _WAITING_IS_TOLD_BY
        if waiting:
            kept.append(record.getMessage().rstrip(".") + ".")
        return not waiting

    logger = logging.getLogger("audit_logging")
    logger.addFilter(keep)
    try:
        yield kept
    finally:
        logger.removeFilter(keep)


def _report(event_id: str, settings: Settings, remaining: int, problem: str, *, as_json: bool) -> None:
    spooled = remaining > 0
    if as_json:
        from audit_logging.cli.output import print_json

        state = {"event_id": event_id, "stream": settings.stream, "state": "spooled" if spooled else "indexed"}
        print_json({**state, "spool_dir": str(settings.spool_path)} if spooled else state)
    else:
        click.echo(event_id)
    if spooled:
        click.echo(
            f"{problem or 'OpenSearch did not acknowledge the event in time.'} The event is safe in the spool"
            f" {settings.spool_path} and ships with the next process that uses it.",
            err=True,
        )
        sys.exit(EXIT_OPENSEARCH)
