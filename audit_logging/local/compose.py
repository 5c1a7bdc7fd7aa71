"""What ``docker-compose.yml`` runs before the servers: making their secrets.

python -m audit_logging.local.compose secrets DIRECTORY      once; later runs change nothing
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from audit_logging.errors import AuditError
from audit_logging.local.certificates import write_certificates
from audit_logging.local.security import ADMIN, DASHBOARDS, new_password, write_rules
from audit_logging.private import make_directory

HOSTS = ("opensearch", "localhost", "127.0.0.1")
IMAGE_USER = 1000
"""Both images run as this user and group id."""


def make_secrets(directory: Path) -> bool:
    """Write what each service needs into its own directory below *directory*; return whether anything was missing.

    ``opensearch/`` gets certificates and hashed passwords, ``dashboards/`` and ``admin/`` a password and the
    authority each. The last file written marks the whole as complete.
    """
    complete = directory / "admin" / "password"
    if complete.exists():
        return False
    passwords = {ADMIN: new_password(), DASHBOARDS: new_password()}
    server, dashboards, admin = (directory / name for name in ("opensearch", "dashboards", "admin"))
    for part in (server, dashboards, admin):
        make_directory(part)
    write_certificates(server, hosts=HOSTS)
    write_rules(server, passwords)
    for part in (dashboards, admin):
        shutil.copyfile(server / "ca.pem", part / "ca.pem")
    (dashboards / "password").write_text(passwords[DASHBOARDS])
    for part in (server, dashboards):
        _hand_over(part)
    unfinished = complete.with_suffix(".new")
    unfinished.touch(mode=0o600)
    unfinished.write_text(passwords[ADMIN])
    unfinished.replace(complete)
    return True


def _hand_over(directory: Path) -> None:
    for path in (directory, *directory.iterdir()):
        path.chmod(0o700 if path.is_dir() else 0o600)
        if os.geteuid() == 0:
            os.chown(path, IMAGE_USER, IMAGE_USER)


def main(arguments: list[str]) -> None:
    """Run the task."""
    match arguments:
        case ["secrets", directory]:
            made = make_secrets(Path(directory))
            sys.stdout.write("Secrets made.\n" if made else "Secrets are there already.\n")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AuditError as error:
        sys.exit(f"Error: {error}")
