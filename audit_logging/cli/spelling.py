"""Keywords of Python in an error message, as the options and variables of the command line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from audit_logging.errors import SettingsError
from audit_logging.query.filter import Filter
from audit_logging.settings import ENVIRONMENT_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from audit_logging.errors import AuditError, Keyword

SETTINGS: Final = {
    "opensearch_url": "--url",
    "stream": "--stream",
    "opensearch_username": "--username",
    "opensearch_password_file": "--password-file",
    "opensearch_ca_file": "--ca-file",
    "spool_dir": "--spool-dir",
    "retention_days": "--retention-days",
    "dashboards_url": "--dashboards",
}
"""Settings that commands have an option for; the others come from the environment alone."""

ARGUMENTS: Final = {
    "cursor": "--cursor",
    "from_last": "--from-last",
    "interval": "--interval",
    "last": "--limit",
    "limit": "--limit",
    "sort": "--oldest-first",
    "top": "--top",
    "within": "--context",
}


def spelled(error: AuditError, arguments: Sequence[str]) -> str:
    """Return the message of *error* in the words of a command that was called with *arguments*."""
    if isinstance(error, SettingsError):
        return error.spelled(lambda keyword: _setting(keyword, arguments))
    return error.spelled(option_of)


def option_of(keyword: Keyword, renamed: Mapping[str, str] | None = None) -> str:
    """Return the option of a command for *keyword*; *renamed* holds those that this command calls otherwise."""
    name = keyword.name
    option: str | None
    if renamed is not None and name in renamed:
        option = renamed[name]
    elif (condition := Filter.conditions().get(name)) is not None:
        option = option_name(name, condition.option)
    else:
        option = ARGUMENTS.get(name)
    if option is None:
        return str(keyword)
    return option if keyword.example is None else f"{option} {keyword.example}"


def option_name(name: str, option: str) -> str:
    """Return the option for a condition called *name* in Python."""
    return f"--not-{option}" if name.startswith("not_") else f"--{option}"


def _setting(keyword: Keyword, arguments: Sequence[str]) -> str:
    option = SETTINGS.get(keyword.name)
    if option is not None and any(word.partition("=")[0] == option for word in arguments):
        return option
    variable = f"{ENVIRONMENT_PREFIX}{keyword.name.upper()}"
    if option is None:  # a setting that no command has an option for is called as in docs/settings.md
        return f"{keyword.name} ({variable})"
    return variable if variable in os.environ else f"{option} or {variable}"
