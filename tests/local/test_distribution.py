"""Unpacked once, complete or not at all, readable by all, and fit for the Java runtime."""

from __future__ import annotations

import dataclasses
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from audit_logging.errors import LocalServerError
from audit_logging.local import distribution
from audit_logging.local.distribution import prepare
from audit_logging.local.java import find_java

pytestmark = pytest.mark.slow  # whole distributions are unpacked


@pytest.fixture(scope="module")
def java():
    return find_java("2.19.4")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    shared = tmp_path_factory.mktemp("shared")
    (shared / ".opensearch-2.19.4-3902e642-1-21-secure").mkdir()  # of an unpacking that was killed
    return shared


@pytest.fixture(scope="module")
def unpacked(java, home, shared):
    """2.19.4 with security, by two that want it at once."""

    def one(_):
        return prepare("2.19.4", java=java, home=home, shared=shared, secure=True)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(one, range(2))
    assert first == second
    return first


def test_it_is_there_as_a_whole_and_nothing_else(unpacked, shared):
    assert {path.name for path in shared.iterdir()} == {unpacked.home.name, ".lock"}
    assert (unpacked.home / "plugins" / "opensearch-security" / "plugin-descriptor.properties").exists()


def test_programs_can_be_run_and_all_can_be_read(unpacked):
    assert (unpacked.home / "bin" / "opensearch").stat().st_mode & 0o777 == 0o755
    for path in (unpacked.home, *unpacked.home.rglob("*")):
        assert path.stat().st_mode & 0o004
        assert not path.is_dir() or path.stat().st_mode & 0o001


def test_its_launchers_options_are_kept_without_what_is_sized_by_us(unpacked):
    assert "-Djava.security.manager=allow" in unpacked.jvm_options
    assert "-Djava.io.tmpdir=${OPENSEARCH_TMPDIR}" in unpacked.jvm_options
    assert not [
        option for option in unpacked.jvm_options if option.startswith(("-Xm", "-Xlog", "-XX:+Use", "--add-modules"))
    ]


def test_modules_that_the_runtime_cannot_carry_are_left_out(java, home, tmp_path):
    fit = prepare("3.8.0", java=java, home=home, shared=tmp_path, secure=False)
    assert (fit.home / "modules" / "reindex").is_dir()
    assert not (fit.home / "modules" / "analysis-common").exists()


def test_a_runtime_that_cannot_run_the_launcher_is_explained(java, home, tmp_path):
    broken = tmp_path / "java"
    (broken / "bin").mkdir(parents=True)
    (broken / "lib").mkdir()
    (broken / "lib" / "modules").write_bytes(b"thai_dict")
    (broken / "bin" / "java").write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    (broken / "bin" / "java").chmod(0o755)
    with pytest.raises(LocalServerError, match=r"Java 21\.\S+ cannot run OpenSearch's launcher: broken"):
        prepare("2.19.4", java=dataclasses.replace(java, home=broken), home=home, shared=tmp_path, secure=False)
    assert not list(tmp_path.glob("*opensearch*"))


@pytest.mark.parametrize("name", ["opensearch-1/../../outside", "opensearch-1//outside"])
def test_an_archive_that_would_leave_its_directory_is_refused(java, tmp_path, name):
    with zipfile.ZipFile(tmp_path / "core.zip", "w") as archive:
        archive.writestr(name, "x")
    (tmp_path / "shared").mkdir()
    with pytest.raises(LocalServerError, match="would leave the directory"):
        distribution._build(tmp_path / "shared" / "opensearch-1", tmp_path / "core.zip", [], java)
    assert not list((tmp_path / "shared").iterdir())


def test_an_archive_that_is_none_is_refused(java, tmp_path):
    (tmp_path / "core.zip").write_text("none")
    with pytest.raises(LocalServerError, match=r"core\.zip cannot be unpacked"):
        distribution._build(tmp_path / "opensearch-1", tmp_path / "core.zip", [], java)
