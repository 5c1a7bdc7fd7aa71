"""What is written down about detached servers, and when it is believed."""

from __future__ import annotations

import os
import stat

import pytest

from audit_logging.errors import LocalServerError
from audit_logging.local import find_running
from audit_logging.local.state import State, process_began, state_file


@pytest.fixture
def state():
    """The state of a server whose supervisor is this process."""
    return State(
        version="3.8.0",
        http_port=1,
        transport_port=2,
        heap="512m",
        directory="/nowhere",
        supervisor=os.getpid(),
        server_pid=os.getpid(),
        began=process_began(os.getpid()) or "",
    )


def test_a_running_server_is_found_by_its_name(tmp_path, state):
    state.write(state_file(tmp_path))
    server = find_running(tmp_path)
    assert server is not None
    assert server.url == "http://127.0.0.1:1"
    assert server.settings() == {"opensearch_url": ("http://127.0.0.1:1",)}
    assert find_running(tmp_path, "other") is None


def test_a_secured_one_comes_with_its_credentials(tmp_path, state):
    path = state_file(tmp_path, "vault")
    State(**{**vars(state), "password": "s3cret"}).write(path)
    server = find_running(tmp_path, "vault")
    assert server is not None
    settings = server.settings()
    assert settings["opensearch_url"] == ("https://127.0.0.1:1",)
    assert settings["opensearch_username"] == "admin"
    assert settings["opensearch_password"].get_secret_value() == "s3cret"
    assert settings["opensearch_ca_file"].name == "ca.pem"
    assert "s3cret" not in repr(server)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_process_id_that_was_given_to_another_process_is_not_believed(tmp_path, state):
    State(**{**vars(state), "began": "0"}).write(state_file(tmp_path))
    assert find_running(tmp_path) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": "3.8.0", "from": "the future"}'])
def test_a_file_that_is_not_understood_is_no_server(tmp_path, content):
    state_file(tmp_path).write_text(content)
    assert find_running(tmp_path) is None


def test_looking_for_a_server_makes_no_directory(tmp_path):
    assert find_running(tmp_path / "home") is None
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b"])
def test_a_name_must_do_as_a_file_name(tmp_path, name):
    with pytest.raises(LocalServerError, match="no name for a server"):
        state_file(tmp_path, name)
