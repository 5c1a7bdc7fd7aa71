"""The fast tests on every supported Python that is here, and with the oldest dependencies that are allowed.

`make pythons` and `make lowest` run it. Interpreters are looked for on the PATH and among pyenv's versions.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import nox

SUPPORTED = ("3.11", "3.12", "3.13", "3.14", "3.15")
OLDEST = SUPPORTED[0]
FAST = ("python", "-m", "pytest", "-q", "-m", "not server and not slow", "-n", "2", "-p", "no:cacheprovider")

nox.options.default_venv_backend = "uv"
nox.options.error_on_missing_interpreters = True


def interpreters() -> list[str]:
    """Return one working interpreter for each supported version that is installed."""
    found = {}
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in SUPPORTED:
        candidates = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python{version}"))]
        for candidate in candidates:
            # A shim of pyenv is on the PATH for versions that are not switched on, too, and then fails.
            if candidate and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
                found[version] = str(candidate)
                break
    return list(found.values())


@nox.session(python=interpreters())
def pythons(session: nox.Session) -> None:
    """Run the fast tests with the pinned dependencies."""
    session.install("--constraint", "constraints.txt", "--editable", ".[all]", "--group", "dev")
    session.run(*FAST, *session.posargs)


@nox.session(python=interpreters()[:1])
def lowest(session: nox.Session) -> None:
    """Run the fast tests with the lowest version of each direct dependency that pyproject.toml allows."""
    oldest = Path(session.create_tmp()) / "lowest.txt"
    resolve = ("uv", "pip", "compile", "--quiet", "--all-extras", "--group", "dev", "--resolution", "lowest-direct")
    session.run(*resolve, "pyproject.toml", "--output-file", str(oldest))
    session.install("--requirement", str(oldest), "--editable", ".")
    session.run(*FAST, *session.posargs)
