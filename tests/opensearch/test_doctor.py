"""The doctor names what is weak, and stays quiet where nothing is."""

from __future__ import annotations

import time

import pytest

from audit_logging.mounts import file_system
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.opensearch.disk import check_spool
from audit_logging.opensearch.doctor import diagnose
from audit_logging.settings import Settings

from .front import Front
from .recorded_ism import BASE, RecordedIsm

FORBIDDEN = (403, {"error": {"type": "security_exception", "reason": "no permissions"}, "status": 403})


def verdicts(diagnosis):
    """Name → the verdicts under it, the worst last."""
    order = ["ok", "skipped", "warning", "problem"]
    found = {}
    for check in sorted(diagnosis.checks, key=lambda check: order.index(check.verdict)):
        found[check.name] = check.verdict
    return found


def named(checks, name):
    [check] = [check for check in checks if check.name == name]
    return check


@pytest.fixture
def behind(front, settings):
    """Settings that lead through the server in front."""
    return settings.model_copy(update={"opensearch_url": (front.url,)})


@pytest.mark.server
def test_a_stream_that_was_never_set_up_is_a_problem_with_a_remedy(settings):
    diagnosis = diagnose(settings)
    assert diagnosis.answered
    found = verdicts(diagnosis)
    assert found["data stream"] == found["component template"] == found["index template"] == "problem"
    assert all("audit-logging setup" in check.remedy for check in diagnosis.problems)
    assert found["clock"] == "ok"


@pytest.mark.server
def test_a_stream_that_was_set_up_has_no_problem(admin, settings):
    admin.setup()
    diagnosis = diagnose(settings)
    assert diagnosis.problems == ()
    found = verdicts(diagnosis)
    assert found["append-only"] == found["data stream"] == found["stream health"] == "ok"


@pytest.mark.server
def test_a_stream_that_may_be_changed_is_one_warning_and_its_templates_are_none(admin, settings):
    admin.setup(append_only=False)
    found = verdicts(diagnose(settings))
    assert found["append-only"] == "warning"
    assert found["component template"] == found["write index"] == "ok"


@pytest.mark.server
def test_a_template_changed_by_hand_is_a_warning(admin, client, settings, stream):
    admin.setup()
    path = f"/_component_template/{stream}-settings"
    found = client.request("GET", path)["component_templates"][0]["component_template"]
    client.request("PUT", path, body={**found, "template": {}})
    assert verdicts(diagnose(settings))["component template"] == "warning"


@pytest.mark.server
def test_an_ordinary_index_of_the_streams_name_is_a_problem(client, settings, stream):
    client.request("PUT", f"/{stream}", body={})
    check = named(diagnose(settings).checks, "stream")
    assert check.verdict == "problem"
    assert "not a data stream" in check.sentence


@pytest.mark.server
def test_looking_changes_nothing(front, behind, settings):
    RecordedIsm(front)
    with AuditAdmin(settings=behind) as admin:
        admin.setup()
    since = len(front.seen)
    diagnose(behind)
    assert {method for method, _ in front.seen[since:]} == {"GET"}
    assert not settings.spool_path.exists()


@pytest.mark.server
def test_retention_is_looked_at_for_every_backing_index(front, behind, client, stream):
    ism = RecordedIsm(front)
    with AuditAdmin(settings=behind) as admin:
        admin.setup()
    client.request("POST", f"/{stream}/_rollover")
    old, new = (f".ds-{stream}-00000{number}" for number in (1, 2))

    ism.manage(old, f"{stream}-retention")
    check = named(diagnose(behind).checks, "retention")
    assert (check.verdict, check.sentence) == ("problem", f"These will never expire: {new}.")

    ism.manage(new, f"{stream}-retention")
    assert named(diagnose(behind).checks, "retention").verdict == "ok"

    failed = {
        "step": {"name": "attempt_delete", "step_status": "failed"},
        "info": {"message": "Failed to delete", "cause": "red"},
    }
    ism.manage(old, f"{stream}-retention", **failed)
    check = named(diagnose(behind).checks, "retention")
    assert check.verdict == "problem"
    assert f"{old}: Failed to delete: red" in check.sentence
    assert "retry" in check.remedy

    ism.manage(old, f"{stream}-retention", retry_info={"failed": True})
    assert f"{old}: it failed" in named(diagnose(behind).checks, "retention").sentence


@pytest.mark.server
def test_without_index_state_management_retention_is_a_warning(admin, settings):
    if admin.setup().steps[0].outcome != "left out":
        pytest.skip("this server has Index State Management")
    assert "nothing rolls over or expires by itself" in named(diagnose(settings).checks, "retention").sentence


@pytest.mark.server
@pytest.mark.parametrize(("seconds", "verdict"), [(-60, "warning"), (60, "warning"), (1, "ok")])
def test_clocks_that_differ_are_a_warning(front, behind, seconds, verdict):
    front.answer("/_nodes", lambda *_: (200, {"nodes": {"n": {"timestamp": int((time.time() + seconds) * 1000)}}}))
    check = named(diagnose(behind).checks, "clock")
    assert check.verdict == verdict
    if verdict == "warning":
        assert "differ by 60 seconds" in check.sentence


@pytest.mark.server
def test_what_a_role_may_not_see_is_skipped_and_said(front, behind):
    front.answer("/_nodes", FORBIDDEN)
    front.answer("/_data_stream", FORBIDDEN)
    found = diagnose(behind)
    assert found.answered
    assert named(found.checks, "clock").verdict == "skipped"
    assert named(found.checks, "stream").verdict == "skipped"


@pytest.mark.server
def test_a_server_that_tells_no_time_is_skipped(front, behind):
    front.answer("/_nodes", (200, {}))
    assert named(diagnose(behind).checks, "clock").verdict == "skipped"


@pytest.mark.server
@pytest.mark.parametrize(("health", "verdict"), [("RED", "problem"), ("YELLOW", "warning"), ("GREEN", "ok")])
def test_a_stream_that_is_not_green_is_named(front, behind, client, health, verdict):
    with AuditAdmin(settings=behind) as admin:
        admin.setup()
    told = client.request("GET", f"/_data_stream/{behind.stream}")
    told["data_streams"][0]["status"] = health
    front.answer("/_data_stream", (200, told))
    assert named(diagnose(behind).checks, "stream health").verdict == verdict


@pytest.mark.server
def test_an_old_server_and_one_with_a_second_node_are_told_apart(front, behind):
    front.answer("/_cluster/health", (200, {"number_of_data_nodes": 2}))
    assert named(diagnose(behind).checks, "server").verdict == "ok"
    front.answer("/", (200, {"version": {"number": "2.11.0", "distribution": "opensearch"}}))
    check = named(diagnose(behind).checks, "server")
    assert check.verdict == "warning"
    assert "Upgrade to 2.19" in check.remedy


@pytest.mark.server
def test_a_server_that_dies_while_it_is_looked_at_did_not_answer(front, behind):
    front.answer("/_data_stream", lambda *_: (200, 1 / 0))
    assert not diagnose(behind).answered


def test_nobody_answering_is_a_problem_and_not_an_error(tmp_path):
    diagnosis = diagnose(Settings.load(opensearch_url="http://127.0.0.1:1", home=tmp_path))
    assert not diagnosis.answered
    assert "No OpenSearch answers" in named(diagnosis.problems, "server").sentence


def test_no_url_is_a_problem(tmp_path):
    diagnosis = diagnose(Settings.load(opensearch_url="", home=tmp_path))
    assert diagnosis.answered
    assert "No OpenSearch is configured" in named(diagnosis.problems, "server").sentence


@pytest.mark.parametrize(
    ("root", "name"),
    [((401, {"error": "Unauthorized"}), "credentials"), ((200, {"hello": "world"}), "server")],
)
def test_a_server_that_refuses_or_is_another_is_a_problem(tmp_path, root, name):
    with Front(None) as front:
        front.answer("/", root)
        diagnosis = diagnose(Settings.load(opensearch_url=front.url, home=tmp_path))
    assert named(diagnosis.problems, name)
    assert diagnosis.answered is (name == "server")


def test_files_for_tls_that_cannot_be_read_are_a_problem(tmp_path):
    given = {"opensearch_url": "https://127.0.0.1:1", "opensearch_ca_file": tmp_path / "missing.pem", "home": tmp_path}
    diagnosis = diagnose(Settings.load(**given))
    assert "TLS files cannot be used" in named(diagnosis.problems, "server").sentence


def test_a_password_that_travels_unencrypted_is_a_warning(tmp_path):
    # A name that never resolves: the check needs no answer.
    url = "http://search.invalid:9200"
    with_password = Settings.load(opensearch_url=url, opensearch_username="u", opensearch_password="p", home=tmp_path)
    assert "the password travel" in named(diagnose(with_password).checks, "transport").sentence
    without = Settings.load(opensearch_url=url, home=tmp_path)
    assert named(diagnose(without).checks, "transport").sentence.startswith("Events travel unencrypted")


# The spool's place.


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """Let the test's directory count as one that lasts."""
    monkeypatch.setattr("audit_logging.mounts.tempfile.gettempdir", lambda: "/nowhere")
    monkeypatch.setattr("audit_logging.opensearch.disk.file_system", lambda _: "ext4")
    return tmp_path


def spool_checks(spool, **more):
    return {check.name: check for check in check_spool(Settings.load(spool_dir=spool, **more))}


def test_a_spool_that_does_not_exist_yet_can_be_created(kept):
    checks = spool_checks(kept / "a" / "b")
    assert checks["spool"].sentence.endswith("does not exist yet and can be created.")
    assert checks["spool privacy"].verdict == "skipped"
    assert checks["spool disk"].verdict == "ok"
    assert not (kept / "a").exists()


def test_a_private_spool_is_fine_and_one_that_others_may_enter_is_a_warning(kept):
    kept.chmod(0o700)
    assert spool_checks(kept)["spool privacy"].verdict == "ok"
    kept.chmod(0o750)
    check = spool_checks(kept)["spool privacy"]
    assert (check.verdict, check.remedy) == ("warning", f"chmod 700 {kept}")


def test_a_spool_of_another_user_is_a_warning(kept, monkeypatch):
    monkeypatch.setattr("audit_logging.opensearch.disk.os.geteuid", lambda: kept.stat().st_uid + 1)
    assert "another user" in spool_checks(kept)["spool privacy"].sentence


@pytest.mark.parametrize("name", ["", "inner"])
def test_a_spool_that_cannot_be_written_is_a_problem(kept, monkeypatch, name):
    monkeypatch.setattr("audit_logging.opensearch.disk.os.access", lambda *_: False)  # root may write everywhere
    check = spool_checks(kept / name)["spool"]
    assert check.verdict == "problem"
    assert ("cannot be created" if name else "cannot be written to") in check.sentence


def test_a_file_in_the_spools_place_is_a_problem(kept):
    (kept / "file").write_text("x")
    assert "is not a directory" in spool_checks(kept / "file" / "spool")["spool"].sentence


@pytest.mark.parametrize("kind", ["tmpfs", "overlay"])
def test_a_spool_that_does_not_outlive_the_process_is_a_warning(kept, monkeypatch, kind):
    monkeypatch.setattr("audit_logging.opensearch.disk.file_system", lambda _: kind)
    check = spool_checks(kept)["spool disk"]
    assert check.verdict == "warning"
    assert kind in check.sentence
    assert "AUDIT_SPOOL_DIR" in check.remedy


def test_a_spool_among_temporary_files_is_a_warning(kept, monkeypatch):
    monkeypatch.setattr("audit_logging.mounts.tempfile.gettempdir", lambda: str(kept))
    assert "clean up" in spool_checks(kept / "spool")["spool disk"].sentence


def test_a_disk_that_does_not_tell_its_kind_is_skipped(kept, monkeypatch):
    monkeypatch.setattr("audit_logging.opensearch.disk.file_system", lambda _: None)
    assert spool_checks(kept)["spool disk"].verdict == "skipped"


def test_a_disk_smaller_than_the_spool_may_grow_is_a_warning(kept):
    assert spool_checks(kept, spool_max_bytes=1 << 60)["spool room"].verdict == "warning"
    assert spool_checks(kept, spool_max_bytes=1 << 16)["spool room"].verdict == "ok"


def test_the_file_system_is_the_one_mounted_nearest_and_last(tmp_path):
    mounts = tmp_path / "mountinfo"
    lines = [
        "1 0 0:1 / / rw - overlay overlay rw",
        f"2 1 8:1 / {tmp_path} rw,relatime shared:1 - xfs /dev/a rw",
        f"3 1 8:2 / {tmp_path}/with\\040space rw - tmpfs tmpfs rw",
        f"4 1 8:3 / {tmp_path} rw master:2 - ext4 /dev/b rw",
        f"5 1 8:4 / {tmp_path}x rw - btrfs /dev/c rw",
    ]
    mounts.write_text("\n".join(lines) + "\n")
    assert file_system(tmp_path / "spool", mounts) == "ext4"
    assert file_system(tmp_path / "with space" / "spool", mounts) == "tmpfs"
    assert file_system(tmp_path.parent, mounts) == "overlay"
    assert file_system(tmp_path, tmp_path / "missing") is None


def test_the_base_of_the_recorded_paths_is_the_one_in_use():
    from audit_logging.opensearch.capabilities import ISM_POLICIES

    assert f"{BASE}/policies" == ISM_POLICIES


def test_foreign_distribution_of_the_same_import_name_is_a_problem(tmp_path, monkeypatch):
    settings = Settings.load(opensearch_url=(), spool_dir=tmp_path / "spool")
    assert "installation" not in verdicts(diagnose(settings))
    metadata = tmp_path / "audit_logging-2.0.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: audit-logging\nVersion: 2.0.2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    check = named(diagnose(settings).checks, "installation")
    assert check.verdict == "problem"
    assert "audit-logging 2.0.2 is installed too" in check.sentence
    assert "pip uninstall audit-logging`" in check.remedy
