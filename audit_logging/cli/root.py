"""The root command: which commands there are, and how an error ends one."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from audit_logging._version import __version__
from audit_logging.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Iterator

STANDARD_OUTPUT = 1

COMMANDS = {
    "server": "audit_logging.cli.server:server",
    "setup": "audit_logging.cli.setup:setup",
    "doctor": "audit_logging.cli.doctor:doctor",
    "demo": "audit_logging.cli.demo:demo",
    "emit": "audit_logging.cli.emit:emit",
    "ship": "audit_logging.cli.ship:ship",
    "spool": "audit_logging.cli.spool:spool",
    "trace": "audit_logging.cli.trace:trace",
    "import": "audit_logging.cli.importing:import_",
    "search": "audit_logging.cli.reading:search",
    "show": "audit_logging.cli.show:show",
    "tail": "audit_logging.cli.tail:tail",
    "count": "audit_logging.cli.reading:count",
    "stats": "audit_logging.cli.stats:stats",
    "export": "audit_logging.cli.export:export",
    "report": "audit_logging.cli.report:report",
    "verify": "audit_logging.cli.verify:verify",
    "prove": "audit_logging.cli.prove:prove",
    "retention": "audit_logging.cli.retention:retention",
    "hold": "audit_logging.cli.hold:hold",
    "erase": "audit_logging.cli.erase:erase",
}
"""Command name → where it lives. Imported only when called, so that each command starts quickly."""

SUMMARIES = {
    "server": "Run a real OpenSearch on this machine, without Docker.",
    "setup": "Create or update templates, retention policy and data stream.",
    "doctor": "Check the installation, the spool, OpenSearch and the stream.",
    "demo": "Watch a web shop emit events, then search them.",
    "emit": "Emit one event and print its id.",
    "ship": "Ship the spools of processes that do not ship themselves.",
    "spool": "Show pending events and dead letters of this host.",
    "trace": "Show where one event is: spool, stream, dead letter.",
    "import": "Import existing records, such as CloudTrail or logs.",
    "search": "Find events.",
    "show": "Show one event, its changes and its context.",
    "tail": "Print the newest events; with -f, follow.",
    "count": "Count events, exactly.",
    "stats": "Count events by a field and over time.",
    "export": "Write events to a file with a verifiable manifest.",
    "report": "Write an HTML report about a period or a person.",
    "verify": "Find edited, deleted, inserted or reordered events.",
    "prove": "Write the proof that one event is unchanged.",
    "retention": "Plan, apply and verify the retention period.",
    "hold": "Place, list and release legal holds.",
    "erase": "Make the personal data of one person unreadable.",
}
"""Command name → its line in the help, which imports no command."""


PIPE_CLOSED = 141
"""Exit code where whoever read the output has gone: 128 + SIGPIPE, as a shell tells of any other tool."""


class PipeClosedError(Exception):
    """Nobody reads standard output any more."""


@contextlib.contextmanager
def _noticing_closed_pipe() -> Iterator[None]:
    # click itself would exit with 1, which here means a finding.
    try:
        yield
    except BrokenPipeError as error:
        raise PipeClosedError from error


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the arguments, which prints help where that is asked for."""
        with _noticing_closed_pipe():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _noticing_closed_pipe():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUMMARIES[name]) for name in COMMANDS])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest command for a mistyped one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            close = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(error.message + hint, ctx) from None


EXIT_CODES = """\b
Exit codes:
  0    done
  1    a finding, or no such event (doctor, verify, show, spool status, ...)
  2    wrong use: an option, a setting or a file
  3    OpenSearch cannot be reached or refused
  4    a promise was not kept, such as a durability or a complete archive
  130  stopped with Ctrl-C
  141  the reader of the output, such as head, has gone
"""


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)
@click.version_option(__version__, prog_name="audit-logging")
def audit_logging() -> None:
    """Tamper-evident audit logging for Python and OpenSearch: emit, ship, search, export, verify.

    \b
    Start here:
      audit-logging demo                 see it work, on a local OpenSearch
      audit-logging server up            start a local OpenSearch
      audit-logging setup                prepare OpenSearch for events
      audit-logging doctor               check the installation
    """


def run(arguments: list[str] | None = None) -> Any:
    """Run the command line and exit: 0 done, 1 a finding, 2 wrong use, 3 OpenSearch, 4 a promise not kept.

    Where the output's reader (head, less) has gone, the exit is quiet, with 141.
    """
    try:
        # Without standalone mode, click returns the code of an exit() instead of exiting with it.
        code = audit_logging.main(args=arguments, prog_name="audit-logging", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.Abort:
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except AuditError as error:
        from audit_logging.cli.spelling import spelled  # here, for neither is needed when all goes well
        from audit_logging.printable import printable

        # An error may quote a server or an event.
        told = spelled(error, sys.argv[1:] if arguments is None else arguments)
        told = "\n".join(map(printable, told.split("\n")))
        click.echo(f"Error: {told}", err=True)
        sys.exit(error.exit_code)
    except PermissionError as error:  # whatever the command, and whichever of its files
        from audit_logging.printable import printable

        place = printable(str(error.filename or "A file"))
        click.echo(f"Error: {place} cannot be used by this user: run this as the user that it belongs to.", err=True)
        sys.exit(AuditError.exit_code)
    except PipeClosedError:
        # What is still buffered goes nowhere, so that the interpreter's own flush at the end stays quiet too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), STANDARD_OUTPUT)
        sys.exit(PIPE_CLOSED)
