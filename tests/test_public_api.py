"""The public surface is a promise: names may be added here, never taken away."""

import subprocess
import sys
from pathlib import Path

import pytest

import audit_logging as audit

ROOT = Path(__file__).parent.parent

NAMES = """
Accounts AsyncAuditReader AuditAdmin AuditError AuditHandler AuditLogger AuditProcessor AuditReader EventType Health RecordedEvents RedactKeys Settings
accounts add_event_id add_severity add_timestamp bind_context carry_context configure context current_context errors flush get_logger health isolated_context merge_context
record_events register_event_type shutdown __version__
""".split()

CALLS = """
user_login user_logout user_register user_profile_update user_password_change purchase_initiated purchase_completed
purchase_failed subscription_created subscription_cancelled api_call websocket_connected websocket_closed
websocket_refused api_key_created api_key_revoked admin_config_change
admin_user_create admin_user_update admin_user_delete admin_role_change admin_permission_change
security_two_factor_enabled security_two_factor_disabled security_login_failed security_suspicious_activity
security_data_export data_accessed
""".split()


def test_the_public_names_are_these():
    """Every name can be had, and no other is offered."""
    assert sorted(audit.__all__) == sorted(NAMES)
    for name in NAMES:
        assert getattr(audit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        audit.nonsense  # noqa: B018


def test_the_typed_calls_are_these():
    """One for each core type that an application may emit."""
    log = audit.get_logger()
    assert set(CALLS) <= set(dir(log))
    for name in CALLS:
        assert callable(getattr(log, name))


def test_generated_files_are_up_to_date():
    """The stub and the reference pages say what the code does."""
    result = subprocess.run(
        [sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_imports_point_one_way():
    """The layout is the architecture."""
    script = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run([script, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_docstring_examples_run():
    """Every example in a docstring does what it shows."""
    import doctest
    import importlib
    import pkgutil

    failed = []
    for module in pkgutil.walk_packages(audit.__path__, "audit_logging."):
        if module.name.startswith(("audit_logging.examples", "audit_logging.__main__")):
            continue
        if doctest.testmod(importlib.import_module(module.name)).failed:
            failed.append(module.name)
    assert failed == []
