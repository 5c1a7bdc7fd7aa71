"""The command line, `audit-logging`. Needs the extra ``cli``; without it, it says so."""

from __future__ import annotations

import os
import sys

WRONG_USE = 2
"""1, which Python would exit with, means a finding here."""


def main() -> None:
    """Run the command line; the entry point of the installed script."""
    # Looking for pydantic's plugins means reading the metadata of every installed package, with every command.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from audit_logging.cli.encoding import never_fail

    never_fail()
    try:
        from audit_logging.cli.root import run
    except ModuleNotFoundError as error:
        if error.name not in {"click", "rich"}:
            raise
        from audit_logging._version import install_command

        sys.stderr.write(f"Error: The command line needs two more packages: {install_command('cli')}\n")
        sys.exit(WRONG_USE)
    run()
