"""Searches while indices come and go."""

from __future__ import annotations

import threading

import pytest

from audit_logging.integrations.admin import AuditAdmin
from audit_logging.opensearch.holds import search
from audit_logging.query import AuditReader

pytestmark = pytest.mark.server


def test_a_search_during_a_rollover_is_answered(settings, client):
    """Seen to fail without the waiting: about one search in four while one rollover follows another."""
    with AuditAdmin(settings=settings) as admin:
        admin.setup()
    answered, errors, done = [], [], threading.Event()

    def look(ask):
        try:
            while not done.is_set():
                ask()
                answered.append(ask)
        except Exception as error:
            errors.append(error)

    with AuditReader(settings=settings) as reader:
        questions = (reader.search, reader.count, lambda: search(client, settings.stream, {"size": 0}))
        threads = [threading.Thread(target=look, args=(ask,)) for ask in questions]
        for thread in threads:
            thread.start()
        for _ in range(10):
            client.request("POST", f"/{settings.stream}/_rollover")
        done.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert set(questions) == set(answered)
