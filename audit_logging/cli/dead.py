"""`audit-logging spool dead`: what OpenSearch refused even in quarantine, and what a damaged disk left of others."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
import orjson

from audit_logging.cli.options import connection_options, json_option, spool_dir_option
from audit_logging.shipping.dead_letters import DeadLetter, DeadLetters

if TYPE_CHECKING:
    from pathlib import Path

    from audit_logging.settings import Settings
    from audit_logging.spool.damage import Damage, DamagedBytes

EXIT_REFUSED = 3
_LONGEST_REASON = 200


@click.group()
def dead() -> None:
    """List, show and replay dead letters: events that OpenSearch refused even in quarantine.

    Each is a file under dead-letters/ in the spool directory. `list` and `show` need no OpenSearch. They tell of
    damaged bytes in the spool too, which are kept there and cannot be replayed.
    """


@dead.command("list")
@spool_dir_option
@json_option
def list_(*, spool_dir: Path | None, as_json: bool) -> None:
    """List the dead letters, by writer and sequence, and then the damaged bytes.

    \b
    Example:
      audit-logging spool dead list --spool-dir /var/lib/shop/audit
    """
    letters, damaged = list(_letters(spool_dir)), list(_damaged_bytes(spool_dir))
    if as_json:
        from audit_logging.cli.output import print_json

        print_json([*map(_summary, letters), *map(_summary_of_damage, damaged)])
        return
    if not letters and not damaged:
        click.echo("There are no dead letters.")
        return
    from audit_logging.cli.output import table

    rows = [(letter.id, letter.event_type, letter.kept, letter.reason[:_LONGEST_REASON]) for letter in letters]
    rows += [(damage.id, "(damaged bytes)", damage.found, f"{damage.reason}: {damage.missing}") for damage in damaged]
    table(("id", "event type", "kept", "reason"), rows)


@dead.command("show")
@click.argument("letter_id", metavar="ID")
@spool_dir_option
@json_option
def show(*, letter_id: str, spool_dir: Path | None, as_json: bool) -> None:
    """Show one dead letter: why it was refused, and the whole event. Or damaged bytes, and where they were.

    \b
    Examples:
      audit-logging spool dead show 3f9c0d2b8a7e6f5c4d3b-17
      audit-logging spool dead show 3f9c0d2b8a7e6f5c4d3b-1-4096
    """
    if (found := _damaged_bytes(spool_dir).get(letter_id)) is not None:
        _show_damage(*found, as_json=as_json)
        return
    letter = _letters(spool_dir).get(letter_id)
    whole = {**_summary(letter), "document": _document(letter)}
    from audit_logging.cli.output import print_json, table

    if as_json:
        print_json(whole)
        return
    table(("", ""), [(name, value) for name, value in whole.items() if name != "document"])
    click.echo()
    print_json(whole["document"])


@dead.command("replay")
@click.argument("letter_ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="Replay every dead letter there is.")
@spool_dir_option
@connection_options
@json_option
def replay(
    *, letter_ids: tuple[str, ...], all_: bool, spool_dir: Path | None, settings: Settings, as_json: bool
) -> None:
    """Send dead letters again, unchanged and under their own ids; what is stored then is a dead letter no more.

    Mend first what they were refused for (see `show`). Exits with 3 when OpenSearch refuses one again.

    \b
    Examples:
      audit-logging spool dead replay 3f9c0d2b8a7e6f5c4d3b-17
      audit-logging spool dead replay --all
    """
    if bool(letter_ids) == all_:
        raise click.UsageError("Name the dead letters to replay, or give --all.")
    letters = _letters(spool_dir)
    chosen = list(letters) if all_ else [letters.get(letter_id) for letter_id in letter_ids]
    outcomes = _replay(letters, chosen, settings)
    if as_json:
        from audit_logging.cli.output import print_json

        print_json([{"id": letter_id, "stored": why is None, "reason": why} for letter_id, why in outcomes.items()])
    else:
        _print_outcomes(outcomes)
    if any(why is not None for why in outcomes.values()):
        sys.exit(EXIT_REFUSED)


def _replay(letters: DeadLetters, chosen: list[DeadLetter], settings: Settings) -> dict[str, str | None]:
    """Return for each letter why it was not stored; None for those that were."""
    from audit_logging.opensearch.client import Client

    client = Client(settings)
    try:
        return {letter.id: letters.replay(letter, client) for letter in chosen}
    finally:
        client.close()


def _print_outcomes(outcomes: dict[str, str | None]) -> None:
    from audit_logging.cli.output import table

    if not outcomes:
        click.echo("There are no dead letters.")
        return
    rows = [(letter_id, "stored" if why is None else f"refused again: {why}") for letter_id, why in outcomes.items()]
    table(("id", "outcome"), rows)


def _show_damage(damage: Damage, data: bytes, *, as_json: bool) -> None:
    from audit_logging.cli.output import print_json, table

    whole = {**_summary_of_damage(damage), "bytes": data.decode("utf-8", "backslashreplace")}
    if as_json:
        print_json(whole)
        return
    table(("", ""), [(name, str(value)) for name, value in whole.items() if name != "bytes"])
    click.echo()
    click.echo(ascii(data)[2:-1])  # whatever is in there, the terminal is left as it was


def _settings(spool_dir: Path | None) -> Settings:
    from audit_logging.settings import Settings

    return Settings.load() if spool_dir is None else Settings.load(spool_dir=spool_dir)


def _letters(spool_dir: Path | None) -> DeadLetters:
    from audit_logging.spool.directory import SpoolDirectory

    settings = _settings(spool_dir)
    return DeadLetters(SpoolDirectory(settings.spool_path).dead_letters, settings.stream)


def _damaged_bytes(spool_dir: Path | None) -> DamagedBytes:
    from audit_logging.spool.damage import DamagedBytes
    from audit_logging.spool.directory import SpoolDirectory

    return DamagedBytes(SpoolDirectory(_settings(spool_dir).spool_path).dead_letters)


def _summary(letter: DeadLetter) -> dict[str, Any]:
    fields = {name: value for name, value in letter._asdict().items() if name != "document"}
    return {"id": letter.id, "kind": "dead letter", "event_type": letter.event_type, "hash": letter.hash, **fields}


def _summary_of_damage(damage: Damage) -> dict[str, Any]:
    return {"id": damage.id, "kind": "damaged bytes", **damage._asdict()}


def _document(letter: DeadLetter) -> Any:
    try:
        return orjson.loads(letter.document)
    except orjson.JSONDecodeError:
        return letter.document
