"""`audit-logging prove`: the proof of one event."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from audit_logging.cli.options import connection_options, json_option
from audit_logging.cli.output import print_json

if TYPE_CHECKING:
    from audit_logging.settings import Settings

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@connection_options
@click.argument("event_id")
@click.option("--out", metavar="FILE", help="File to write; else standard output.")
@click.option("--public-key", "public_keys", multiple=True, type=_FILE, help="Trust only this public key (.pub).")
@json_option
def prove(*, settings: Settings, event_id: str, out: str | None, public_keys: tuple[Path, ...], as_json: bool) -> None:
    """Write the proof that an event is as it was written: the event, and its chain up to the next signature.

    Anybody who has the public key can check it with docs/check_proof.py, which needs nothing but Python. The proof
    discloses the events that the same writer wrote in between. The proof is JSON; with --out, --json prints where it is
    and which key signed it. Exits with 1 when there is no proof of it yet.

    \b
    Example:
      audit-logging prove 0193ed3c-6f1a-7c3e-9f6f-0c6b2d1f3a57 --out proof.json
    """
    from audit_logging.query.reader import AuditReader

    with AuditReader(settings=settings) as reader:
        proof = reader.prove(event_id, public_keys=public_keys)
    content = orjson.dumps(proof.to_dict(), option=orjson.OPT_APPEND_NEWLINE)
    if out is None or out == "-":
        click.echo(content, nl=False)
        where = ""
    else:
        _write(Path(out), content)
        where = f" in {out}"
    if as_json:
        if where:
            print_json({"event_id": event_id, "out": out, "events": len(proof.events), "key": proof.key})
        return
    click.echo(f"Proof of {len(proof.events):,} events{where}, signed by the key {proof.key}.", err=True)


def _write(path: Path, content: bytes) -> None:
    from audit_logging.files import write_durably

    try:
        write_durably(path, content)
    except OSError as error:
        raise click.ClickException(f"The proof cannot be written to {path} ({error.strerror}).") from error
