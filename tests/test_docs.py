"""Every command and snippet in the documentation runs."""

import logging
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

import audit_logging as audit
from audit_logging.capture.configuration import swap_trail
from audit_logging.cli.root import COMMANDS
from audit_logging.opensearch.admin import AuditAdmin

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def snippets(mark):
    """Return the Python blocks that stand under a mark, as (page, number) and code."""
    found = []
    for page in PAGES:
        blocks = re.findall(rf"<!-- {mark} -->\n```python\n(.*?)```", page.read_text(), re.DOTALL)
        found += [pytest.param(block, id=f"{page.name}-{number}") for number, block in enumerate(blocks)]
    return found


def commands():
    """Return every `audit-logging …` line of the documentation."""
    found = []
    for page in PAGES:
        found += [(page.name, line) for line in re.findall(r"^\$ (audit-logging .*)$", page.read_text(), re.MULTILINE)]
    return found


@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    """Each snippet in a directory of its own; what it sets up globally is put back."""
    monkeypatch.setenv("AUDIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    before = swap_trail(None)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    made = swap_trail(before)
    if made is not None:
        made.shutdown(5)
    structlog.reset_defaults()


@pytest.mark.parametrize("code", snippets("test"))
def test_snippets_run(code, capsys):
    """As they stand, without a server; what they emit is kept in memory."""
    with audit.record_events():
        exec(compile(code, "snippet", "exec"), {"__name__": "snippet"})


@pytest.mark.server
@pytest.mark.parametrize("code", snippets("test: server"))
def test_snippets_with_a_server_run(code, settings, monkeypatch, capsys):
    """With AUDIT_OPENSEARCH_URL set, as the page says."""
    AuditAdmin(settings=settings).setup()
    monkeypatch.setenv("AUDIT_OPENSEARCH_URL", settings.opensearch_url[0])
    monkeypatch.setenv("AUDIT_STREAM", settings.stream)
    exec(compile(code, "snippet", "exec"), {"__name__": "snippet"})


@pytest.mark.server
def test_the_five_minutes_of_the_readme_work(settings, monkeypatch, capfd):
    """One command after the other, as a newcomer types them; the two that start and stop a server have tests of their own."""
    from audit_logging.cli.root import run

    block = re.search(r"<!-- run -->\n```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    monkeypatch.setenv("AUDIT_OPENSEARCH_URL", settings.opensearch_url[0])
    monkeypatch.setenv("AUDIT_STREAM", settings.stream)
    lines = [line[2:] for line in block.splitlines()]
    assert lines[0] == "pip install '.[all]'"
    assert (lines[1], lines[-1]) == ("audit-logging server up", "audit-logging server down")
    printed = {}
    for line in lines[2:-1]:
        code = 0
        try:
            run(shlex.split(line)[1:])
        except SystemExit as stop:
            code = stop.code
        printed[line] = capfd.readouterr().out
        assert not code or "doctor" in line, line
    assert "u-42" in next(out for line, out in printed.items() if " search " in line)
    assert next(out for line, out in printed.items() if " count " in line) == "1\n"
    assert "bad password" in Path("trail.ndjson").read_text()


@pytest.mark.server
def test_the_application_at_the_top_of_the_readme_is_found(settings, monkeypatch, tmp_path):
    """It knows of no OpenSearch; the commands, which do, bring in what it left in the spool."""
    readme = (ROOT / "README.md").read_text()
    (tmp_path / "app.py").write_text(re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1])
    block = re.search(r"<!-- app -->\n```console\n(.*?)```", readme, re.DOTALL)[1]
    AuditAdmin(settings=settings).setup()
    monkeypatch.setenv("AUDIT_STREAM", settings.stream)
    found = ""
    for line in block.splitlines():
        program, *arguments = shlex.split(line.removeprefix("$ "))
        knows = {} if program == "python" else {"AUDIT_OPENSEARCH_URL": settings.opensearch_url[0]}
        environment = {**{k: v for k, v in os.environ.items() if k != "AUDIT_OPENSEARCH_URL"}, **knows}
        command = [sys.executable, *([] if program == "python" else ["-m", "audit_logging"]), *arguments]
        found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "u-42 failed to log in" in found


def test_every_documented_command_exists():
    """A page that names a command or option that is not there is wrong."""
    import importlib

    for page, line in commands():
        words = shlex.split(line.split("|")[0].split(">")[0])[1:]
        assert words[0] in COMMANDS, f"{page}: {line}"
        module, _, attribute = COMMANDS[words[0]].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        while len(words) > 1 and words[1] in getattr(command, "commands", {}):
            words = words[1:]
            command = command.commands[words[0]]
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for word in words[1:]:
            if word.startswith("--"):
                assert word.partition("=")[0] in options, f"{page}: {line}"


def test_every_command_has_help_with_an_example():
    """Somebody who types --help finds what to type next."""
    import importlib

    for target in COMMANDS.values():
        module, _, attribute = target.partition(":")
        assert getattr(importlib.import_module(module), attribute).help


def test_links_between_pages_lead_somewhere():
    """No page points at one that is not there."""
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
