"""The samples for cron and systemd work as they are: only addresses and directories are those of the test."""

from __future__ import annotations

import getpass
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from audit_logging.query.export.check import check_export
from tests.query.trail import Trail

SAMPLES = Path(__file__).parents[2] / "examples" / "schedule"
UNITS = sorted(SAMPLES.glob("*.service"))
STATE = "/var/lib/audit-logging"
SETTING = re.compile(r"([A-Z_]+)=(.*)")
JOB = re.compile(r"((?:(?:\*|[0-9]+) +){5}) *([a-z]+) +(.*)")
BOUNDS = (range(60), range(24), range(1, 32), range(1, 13), range(8))


def settings_of(lines):
    return dict(match.groups() for line in lines if (match := SETTING.fullmatch(line)))


def cron_jobs():
    """Yield the command of each line, and the environment that stands above it, as cron reads them."""
    environment = {}
    for line in (SAMPLES / "audit-logging.cron").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if (match := SETTING.fullmatch(line)) is not None:
            environment[match[1]] = match[2]
            continue
        times, _, command = JOB.fullmatch(line).groups()
        assert all(field == "*" or int(field) in bound for field, bound in zip(times.split(), BOUNDS, strict=True))
        assert "%" not in command  # cron would end the line there
        yield command, dict(environment)


def values_of(path):
    """Return each key of a unit; none of ours stands twice."""
    lines = [line for line in path.read_text().splitlines() if "=" in line and not line.startswith("#")]
    values = dict(line.split("=", 1) for line in lines)
    assert len(values) == len(lines)
    return values


def words_of(command):
    """Return what is run: without what a shell does around it."""
    return shlex.split(re.sub(r"^found=\$\((.*)\) \|\| .*$", r"\1", command.removesuffix(" >/dev/null")))


@pytest.fixture
def here(settings, client, tmp_path):
    """Return a text with the places of the test in it, and the environment that nothing else is in."""
    Trail(settings, client)
    for name in ("reader", "administrator"):
        (tmp_path / f"{name}.password").write_text("secret")
    places = {
        "/opt/audit-logging": sys.prefix,
        STATE: str(tmp_path / "state"),
        "/etc/audit-logging": str(tmp_path),
        "https://opensearch.example:9200": settings.opensearch_url[0],
    }

    def here(text):
        for place, ours in places.items():
            text = text.replace(place, ours)
        return text

    return here


@pytest.mark.server
@pytest.mark.slow
def test_cron_runs_every_line(settings, here, tmp_path):
    """Twice, as on two days: nothing is said when all is well, and nothing made twice."""
    state, made = tmp_path / "state", []
    for _ in range(2):
        for command, environment in cron_jobs():
            ended = subprocess.run(
                ["/bin/sh", "-c", here(command)],
                env={
                    "HOME": str(tmp_path),
                    "LOGNAME": getpass.getuser(),
                    "SHELL": "/bin/sh",
                    "PATH": "/usr/bin:/bin",
                    **{name: here(value) for name, value in environment.items()},
                    "AUDIT_STREAM": settings.stream,
                },
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", ""), command
        written = [path for name in ("exports", "reports", "archive") for path in (state / name).iterdir()]
        made.append({path.name: path.stat().st_ino for path in written})
    assert made[0] == made[1]
    manifests = list((state / "exports").glob("*.manifest.json"))
    assert len(manifests) == 7
    assert [deviation for manifest in manifests for deviation in check_export(manifest)] == []
    assert len(list((state / "reports").glob("*.html"))) == 7
    assert {path.stat().st_mode & 0o77 for path in (*written, state / "exports", state / "reports")} == {0}


@pytest.mark.server
def test_cron_mails_what_is_wrong(settings, here, tmp_path, client):
    """A stream that is not there: each line says so, in words."""
    for command, environment in cron_jobs():
        ended = subprocess.run(
            ["/bin/sh", "-c", here(command)],
            env={**{name: here(value) for name, value in environment.items()}, "AUDIT_STREAM": f"{settings.stream}-x"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "There is no stream" in ended.stderr, command


def test_systemd_runs_the_same_commands_with_the_same_settings():
    """So that what is tested of the one is tested of the other."""
    jobs = [(words_of(command), environment) for command, environment in cron_jobs()]
    assert len(UNITS) == len(jobs)
    for unit in UNITS:
        values = values_of(unit)
        words = shlex.split(values["ExecStart"].replace("${STATE_DIRECTORY}", f"/var/lib/{values['StateDirectory']}"))
        [environment] = [environment for command, environment in jobs if command == words]
        given = settings_of((SAMPLES / Path(values["EnvironmentFile"]).name).read_text().splitlines())
        assert given == {name: value for name, value in environment.items() if name != "MAILTO"}
        assert values["EnvironmentFile"].startswith("/etc/audit-logging/")
        timer = values_of(unit.with_suffix(".timer"))
        assert (timer["Persistent"], timer["WantedBy"]) == ("true", "timers.target")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd")
def test_systemd_takes_the_units(tmp_path):
    """Nothing to remark in any of them, and every time is one."""
    for path in (*UNITS, *SAMPLES.glob("*.timer")):
        (tmp_path / path.name).write_text(path.read_text().replace("/opt/audit-logging", sys.prefix))
    units = sorted(map(str, tmp_path.iterdir()))
    verified = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    for timer in SAMPLES.glob("*.timer"):
        subprocess.run(["systemd-analyze", "calendar", values_of(timer)["OnCalendar"]], check=True, capture_output=True)


def test_each_sample_says_where_it_belongs():
    for path in sorted(SAMPLES.iterdir()):
        assert path.read_text().startswith("# /etc/"), path.name


def test_the_documentation_shows_the_samples_themselves():
    page = (SAMPLES.parents[1] / "docs" / "operations.md").read_text()
    for name in ("audit-logging.cron", "audit-export.service", "audit-export.timer"):
        assert f"\n{(SAMPLES / name).read_text()}```\n" in page, name
