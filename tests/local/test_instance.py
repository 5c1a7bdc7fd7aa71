"""Where a server keeps its data."""

from __future__ import annotations

import os

import pytest

from audit_logging.local import instance as module
from audit_logging.local.account import Account
from audit_logging.local.instance import Instance

US = Account("us", os.geteuid(), os.getegid(), switch=False)


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """A directory in the place of the one in memory."""
    memory = tmp_path / "memory"
    memory.mkdir()
    monkeypatch.setattr(module, "MEMORY", memory)
    monkeypatch.setattr(module, "ROOM_BYTES", 0)
    return memory


def test_it_is_on_the_disk_unless_asked_for(tmp_path, memory):
    instance = Instance.create(tmp_path, US)
    assert instance.data == instance.directory / "data"
    assert list(memory.iterdir()) == []
    instance.remove()


def test_it_may_be_in_memory_and_leaves_that_too(tmp_path, memory):
    instance = Instance.create(tmp_path, US, in_memory=True)
    assert instance.data.parent == memory
    instance.configure(US, http_port=1, transport_port=2, given={})
    assert f'path.data: "{instance.data}"' in (instance.config / "opensearch.yml").read_text()
    (instance.data / "nodes").mkdir()
    instance.remove()
    assert not instance.directory.exists()
    assert list(memory.iterdir()) == []


def test_what_a_crash_left_goes_with_the_next(tmp_path, memory):
    left = Instance.create(tmp_path, US, in_memory=True)
    left.let_go()  # as the kernel does for a process that was killed
    used = Instance.create(tmp_path, US, in_memory=True)
    assert not left.directory.exists()
    assert not left.data.exists()
    Instance.create(tmp_path, US, in_memory=True).remove()
    assert used.directory.exists()
    assert used.data.exists()
    used.remove()


@pytest.mark.parametrize(("name", "value"), [("ROOM_BYTES", 1 << 60), ("MEMORY", module.MEMORY / "nowhere")])
def test_without_room_for_it_the_disk_will_do(tmp_path, memory, monkeypatch, name, value):
    """A container often has no more than 64 MiB of it; other systems have none."""
    monkeypatch.setattr(module, name, value)
    instance = Instance.create(tmp_path, US, in_memory=True)
    assert instance.data == instance.directory / "data"
    assert instance.data.is_dir()
    assert list(memory.iterdir()) == []
    instance.remove()
