"""Metrics, as a real Prometheus client gets them through HTTP."""

import subprocess
import sys
from urllib.request import urlopen

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from audit_logging.capture.configuration import swap_trail
from audit_logging.capture.trail import Trail
from audit_logging.integrations.prometheus import AuditCollector
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.settings import Settings
from audit_logging.shipping.dead_letters import DeadLetters
from audit_logging.spool.damage import Damage, DamagedBytes
from audit_logging.spool.directory import SpoolDirectory
from audit_logging.spool.segment import Record
from tests.faults.proxy import FaultProxy


@pytest.fixture
def settings_here(tmp_path):
    return Settings.load(service="shop", spool_dir=tmp_path / "spool", ship=False)


@pytest.fixture
def scrape():
    """Serve a registry, and return what one scrape of it tells: sample name and labels → value."""
    servers = []

    def scrape(registry):
        server, thread = prometheus_client.start_http_server(0, "127.0.0.1", registry)
        servers.append((server, thread))
        with urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
            text = answer.read().decode()
        return {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    yield scrape
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def registry(settings_here):
    registry = CollectorRegistry()
    registry.register(AuditCollector(settings_here))
    return registry


def test_one_process_tells_of_all(settings_here, registry, scrape):
    """The living, the dead and the closed of every stream that share a spool directory."""
    living, dead = Trail(settings_here), Trail(settings_here.model_copy(update={"stream": "audit-other"}))
    for trail, count in ((living, 3), (dead, 2)):
        for _ in range(count):
            trail.emit("user.login", {"user_id": "u-1"})
    dead.shutdown(0)
    found = scrape(registry)
    assert found["audit_events_emitted_total", "audit-events"] == 3
    assert found["audit_events_in_spool", "audit-events"] == 3
    assert found["audit_events_in_spool", "audit-other"] == 2
    assert found["audit_events_indexed_total", "audit-events"] == 0
    assert found["audit_spool_writers", "alive", "audit-events"] == 1
    assert found["audit_spool_writers", "audit-other", "dead"] == 1
    assert 0 < found["audit_spool_fullest_ratio", "audit-events"] < 0.001
    assert found["audit_spool_bytes", "audit-events"] > 1000
    assert found["audit_spool_oldest_waiting_timestamp_seconds", "audit-events"] > 1.7e9
    assert ("audit_spool_last_acknowledged_timestamp_seconds", "audit-events") not in found
    assert found["audit_spool_up",] == 1
    living.shutdown(0)


@pytest.mark.server
def test_counters_never_go_back(settings, scrape):
    """When a writer is closed and its directory goes, what it counted stays."""
    AuditAdmin(settings=settings).setup()
    registry = CollectorRegistry()
    registry.register(AuditCollector(settings))
    with FaultProxy(settings.opensearch_url[0]) as proxy:
        proxy.faults.append(proxy.items(400, "mapper_parsing_exception", every=1))
        trail = Trail(settings.model_copy(update={"opensearch_url": (proxy.url,)}))
        trail.emit("user.login", {"user_id": "u-1"})
        assert trail.flush(20)
        trail.emit("user.login", {"user_id": "u-2"})
        assert trail.flush(20)
        before = scrape(registry)
        assert trail.shutdown(10) == 0
    assert SpoolDirectory(settings.spool_path).writers() == []
    after = scrape(registry)
    for name, count in (("emitted", 2), ("indexed", 1), ("quarantined", 1)):
        assert before[f"audit_events_{name}_total", settings.stream] == count
        assert after[f"audit_events_{name}_total", settings.stream] == count
    assert before["audit_spool_last_acknowledged_timestamp_seconds", settings.stream] > 1.7e9


def test_without_settings_it_follows_the_trail_of_the_process(settings_here, scrape, monkeypatch, tmp_path):
    """And before there is one the environment's."""
    registry = CollectorRegistry()
    registry.register(AuditCollector())
    monkeypatch.setenv("AUDIT_SPOOL_DIR", str(tmp_path / "elsewhere"))
    before = swap_trail(None)
    try:
        assert not [name for name, *_ in scrape(registry) if name.startswith("audit_events")]
        swap_trail(trail := Trail(settings_here))
        trail.emit("user.login", {"user_id": "u-1"})
        assert scrape(registry)["audit_events_emitted_total", "audit-events"] == 1
        trail.shutdown(0)
    finally:
        swap_trail(before)


def test_a_spool_that_cannot_be_read_leaves_the_applications_own_metrics(settings_here, registry, scrape, monkeypatch):
    """It says so in a metric of its own."""
    Counter("orders", "Orders", registry=registry).inc()
    (settings_here.spool_path).mkdir()
    monkeypatch.setattr("audit_logging.shipping.accounts.os.access", lambda *_: False)
    found = scrape(registry)
    assert found["audit_spool_up",] == 0
    assert found["orders_total",] == 1


def test_dead_letters_are_counted_until_they_are_replayed(settings_here, registry, scrape):
    letters = DeadLetters(SpoolDirectory(settings_here.spool_path).dead_letters, "audit-events")
    letters.keep(Record(1, b"{}"), "0" * 20, "why")
    assert scrape(registry)["audit_events_dead", ""] == 1


def test_damage_is_counted(settings_here, registry, scrape):
    """Also when no event is missing, and when nobody knows the writer any more."""
    assert scrape(registry)["audit_spool_damaged_places",] == 0
    damage = Damage("0" * 20, "1.seg", 42, 3, 1, 0, "no whole record in its place", "2026-01-01T00:00:00+00:00")
    kept = DamagedBytes(SpoolDirectory(settings_here.spool_path).dead_letters)
    kept.keep(damage, b"???")
    kept.keep(damage._replace(offset=99), b"???")
    assert scrape(registry)["audit_spool_damaged_places",] == 2


def test_it_stands_beside_the_clients_own_way_with_many_processes(settings_here, scrape, tmp_path, monkeypatch):
    """Workers that count in files: the accounts are the same whichever of them answers."""
    trail = Trail(settings_here)
    trail.emit("user.login", {"user_id": "u-1"})
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    registry.register(AuditCollector(settings_here))
    program = (
        "from prometheus_client import CollectorRegistry, generate_latest\n"
        "from audit_logging.integrations.prometheus import AuditCollector\n"
        "registry = CollectorRegistry(); registry.register(AuditCollector()); print(generate_latest(registry).decode())"
    )
    monkeypatch.setenv("AUDIT_SPOOL_DIR", str(settings_here.spool_path))
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert 'audit_events_emitted_total{stream="audit-events"} 1.0' in other
    assert scrape(registry)["audit_events_emitted_total", "audit-events"] == 1
    trail.shutdown(0)
