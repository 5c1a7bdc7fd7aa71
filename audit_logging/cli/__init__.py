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
    try:
        from audit_logging.cli.root import run
    except ModuleNotFoundError as error:
        if error.name not in {"click", "rich"}:
            raise
        sys.stderr.write("Error: The command line needs two more packages: pip install 'audit-logging[cli]'\n")
        sys.exit(WRONG_USE)
    run()
