"""The name and version of the distribution, in one place: package, documents and templates read them here."""

__version__ = "0.1.0"

DISTRIBUTION = "opensearch-audit-logging"
"""The name to install. ``audit-logging`` on the package index is another project, with the same import name."""

FOREIGN_DISTRIBUTION = "audit-logging"
"""The other project. Installed next to this one, its files and ours overwrite each other."""


def install_command(extra: str) -> str:
    """Return the command that installs *extra*.

    Example:
        >>> install_command("cli")
        "pip install 'opensearch-audit-logging[cli]' (from a checkout: pip install '.[cli]')"
    """
    return f"pip install '{DISTRIBUTION}[{extra}]' (from a checkout: pip install '.[{extra}]')"
