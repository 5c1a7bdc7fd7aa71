"""The built distribution installs into an empty environment and runs the README's commands."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

from audit_logging._version import DISTRIBUTION, __version__
from audit_logging.local.places import cache_directory
from audit_logging.settings import Settings

ROOT = Path(__file__).parent.parent
SYSTEM_PYTHON = Path("/usr/bin/python3")
NOBODY = 65534


@pytest.fixture(scope="module")
def public():
    """A directory that every user may enter."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture(scope="module")
def wheel(public):
    """Build the source distribution, and the wheel from it and from nothing else."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", public], cwd=ROOT, check=True)
    with tarfile.open(public / f"{DISTRIBUTION.replace('-', '_')}-{__version__}.tar.gz") as archive:
        archive.extractall(public / "source", filter="data")
    (source,) = (public / "source").iterdir()
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", public], cwd=source, check=True)
    (built,) = public.glob("*.whl")
    return built


def can_serve_another_user():
    """Whether this user may start programs as another, who could run that Python."""
    if os.geteuid() != 0 or not SYSTEM_PYTHON.exists():
        return False
    probe = "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([SYSTEM_PYTHON, "-c", probe], user=NOBODY, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def installed(public, wheel):
    """An environment that holds the wheel and its dependencies; returns how to run a command line in it."""
    other_user = can_serve_another_user()
    python = SYSTEM_PYTHON if other_user else Path(sys.executable)
    environment, home = public / "environment", public / "nobody"
    subprocess.run([python, "-m", "venv", environment], check=True)
    install = [environment / "bin/pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", f"{wheel}[all]"]
    subprocess.run(install, check=True)
    home.mkdir()
    if other_user:
        os.chown(home, NOBODY, NOBODY)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AUDIT_", "COVERAGE", "PYTHON", "XDG_"))}
    own = {"PATH": f"{environment / 'bin'}:/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8"}

    def run(line, **variables):
        return subprocess.run(
            shlex.split(line),
            cwd=home,
            env=kept | own | variables,
            user=NOBODY if other_user else None,
            group=NOBODY if other_user else None,
            extra_groups=[] if other_user else None,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    return run


def test_wheel_carries_what_the_program_reads_at_run_time(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "audit_logging/py.typed",
        "audit_logging/index_templates/index-template.json",
        "audit_logging/index_templates/ism-policy.json",
        "audit_logging/examples/shop/app.py",
    } <= names
    assert not [name for name in names if name.startswith(("tests/", "bench/"))]


@pytest.mark.slow
def test_metadata_names_the_distribution(installed):
    shown = installed(f"python -m pip show {DISTRIBUTION}")
    assert f"Name: {DISTRIBUTION}\nVersion: {__version__}\n" in shown.stdout


@pytest.mark.slow
@pytest.mark.server
def test_readme_commands_run_from_the_wheel_in_an_empty_home(installed, public, opensearch_server):
    """As an unprivileged user, with a server of its own. An archive of OpenSearch that is here already is handed over."""
    block = re.search(r"<!-- run -->\n```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    lines = [line[2:] for line in block.splitlines()]
    assert lines[0] == "pip install '.[all]'"
    home = public / "nobody" / "audit"
    shutil.copytree(cache_directory(Settings.load().home), home / "cache")
    for path in [home, *home.rglob("*")]:
        os.chown(path, (public / "nobody").stat().st_uid, -1)
    home.chmod(0o700)
    printed = {}
    try:
        for line in lines[1:]:
            ended = installed(line, AUDIT_HOME=str(home))
            printed[line] = ended.stdout
            assert ended.returncode == 0 or "doctor" in line, f"{line}\n{ended.stdout}{ended.stderr}"
    finally:
        installed("audit-logging server down", AUDIT_HOME=str(home))
    assert "u-42" in next(out for line, out in printed.items() if " search " in line)
    assert next(out for line, out in printed.items() if " count " in line) == "1\n"
    assert "bad password" in (public / "nobody" / "trail.ndjson").read_text()
