"""What ``docker-compose.yml`` runs besides the servers: making its secrets, filling Dashboards.

python -m audit_logging.local.compose secrets DIRECTORY      once; later runs change nothing
python -m audit_logging.local.compose dashboards URL PASSWORD_FILE OBJECTS_FILE
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path
from uuid import uuid4

from audit_logging.errors import AuditError, LocalServerError
from audit_logging.local.certificates import write_certificates
from audit_logging.local.security import ADMIN, DASHBOARDS, new_password, write_rules

HOSTS = ("opensearch", "localhost", "127.0.0.1")
IMAGE_USER = 1000
"""Both images run as this user and group id."""

TIMEOUT_SECONDS = 60


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
        part.mkdir(parents=True, exist_ok=True)
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


def import_objects(url: str, password: str, objects: bytes) -> int:
    """Put saved objects into Dashboards at *url*, over those of the same ids; return how many.

    Raises:
        LocalServerError: Dashboards does not answer, or refused some.
    """
    boundary = uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="audit.ndjson"\r\n'
    body = f"{head}Content-Type: application/ndjson\r\n\r\n".encode() + objects + f"\r\n--{boundary}--\r\n".encode()
    request = urllib.request.Request(  # noqa: S310 - the scheme is ours
        f"{url.rstrip('/')}/api/saved_objects/_import?overwrite=true",
        data=body,
        headers={
            "Authorization": "Basic " + base64.b64encode(f"{ADMIN}:{password}".encode()).decode(),
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "osd-xsrf": "true",
            "securitytenant": "global",  # what every user sees first
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            result = json.load(answer)
    except (OSError, ValueError) as error:
        raise LocalServerError(f"Dashboards at {url} did not take the saved objects ({error}): see its log.") from error
    if not result.get("success"):
        raise LocalServerError(f"Dashboards at {url} refused saved objects: {json.dumps(result.get('errors', result))}")
    return int(result["successCount"])


def main(arguments: list[str]) -> None:
    """Run one of the two tasks."""
    match arguments:
        case ["secrets", directory]:
            made = make_secrets(Path(directory))
            sys.stdout.write("Secrets made.\n" if made else "Secrets are there already.\n")
        case ["dashboards", url, password_file, objects_file]:
            objects = Path(objects_file).read_bytes()
            count = import_objects(url, Path(password_file).read_text().strip(), objects)
            sys.stdout.write(f"Dashboards has {count} saved objects.\n")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AuditError as error:
        sys.exit(f"Error: {error}")
