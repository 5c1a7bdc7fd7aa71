"""A cluster of three nodes loses the one it has elected, in the middle of writing."""

import threading
from contextlib import ExitStack

import pytest

from audit_logging.capture.trail import Trail
from audit_logging.local import LocalServer
from audit_logging.local.instance import free_port
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.opensearch.client import Client
from audit_logging.settings import Settings
from audit_logging.shipping import backoff
from tests.faults.reckoning import reckon
from tests.waiting import until

pytestmark = [pytest.mark.server, pytest.mark.slow]

NODES = ("one", "two", "three")


@pytest.fixture
def nodes():
    """Three servers that are one cluster, by name."""
    ports = {name: free_port() for name in NODES}
    shared = {
        "discovery.type": None,
        "discovery.seed_hosts": [f"127.0.0.1:{port}" for port in ports.values()],
        "cluster.initial_cluster_manager_nodes": list(NODES),
        # The default waits half a minute for a node that was killed.
        "cluster.fault_detection.leader_check.timeout": "2s",
        "cluster.fault_detection.leader_check.interval": "500ms",
        "cluster.fault_detection.follower_check.timeout": "2s",
        "cluster.fault_detection.follower_check.interval": "500ms",
    }
    with ExitStack() as stack:
        nodes = {}
        for name in NODES:
            own = {"node.name": name, "transport.port": ports[name]}
            nodes[name] = LocalServer(settings={**shared, **own}, start_seconds=240)
            stack.callback(nodes[name].stop)
            nodes[name].start(wait=False)
        for node in nodes.values():
            node.wait_until_ready()
        yield nodes


def move_primary(client, stream, node):
    """Let *node* hold the stream's primary, so that it takes something with it when it dies."""
    shards = client.request("GET", f"/_cat/shards/{stream}", params={"format": "json"})
    primary = next(shard for shard in shards if shard["prirep"] == "p")
    if primary["node"] == node:
        return
    replica = next((shard for shard in shards if shard["prirep"] == "r" and shard["node"] == node), None)
    moved = {"index": primary["index"], "shard": 0}
    if replica is None:
        command = {"move": {**moved, "from_node": primary["node"], "to_node": node}}
    else:  # the replica there becomes the primary
        command = {"cancel": {**moved, "node": primary["node"], "allow_primary": True}}
    client.request("POST", "/_cluster/reroute", body={"commands": [command]})
    until(lambda: primary_of(client, stream) == node)
    health = {"wait_for_status": "green", "wait_for_no_relocating_shards": True, "timeout": "60s"}
    client.request("GET", f"/_cluster/health/{stream}", params=health)


def primary_of(client, stream):
    shards = client.request("GET", f"/_cat/shards/{stream}", params={"format": "json"})
    started = (shard["node"] for shard in shards if shard["prirep"] == "p" and shard["state"] == "STARTED")
    return next(started, None)


def test_the_elected_node_is_killed_and_nothing_is_lost(nodes, tmp_path, monkeypatch):
    """Writing goes on with the two that remain; each event is there once."""
    monkeypatch.setattr(backoff, "LONGEST_SECONDS", 2.0)
    urls = tuple(node.url for node in nodes.values())
    settings = Settings.load(
        opensearch_url=urls, stream="audit-cluster", home=tmp_path, opensearch_timeout_seconds=5.0, batch_seconds=0.02
    )
    patient = settings.model_copy(update={"opensearch_timeout_seconds": 60.0})
    with AuditAdmin(settings=patient) as admin:
        admin.setup()
    client = Client(patient)
    until(lambda: client.request("GET", "/_cluster/health")["number_of_nodes"] == 3)
    health = {"wait_for_status": "green", "timeout": "60s"}
    assert client.request("GET", f"/_cluster/health/{settings.stream}", params=health)["status"] == "green"

    elected = client.request("GET", "/_cat/cluster_manager", params={"format": "json"})[0]["node"]
    move_primary(client, settings.stream, elected)

    trail, ids, leaving = Trail(settings), [], threading.Event()

    def emit():
        while not leaving.wait(0.002):
            ids.append(trail.emit("user.login", {"user_id": f"u-{len(ids)}"}))

    application = threading.Thread(target=emit)
    application.start()
    try:
        until(lambda: len(ids) > 300)
        nodes[elected].kill()
        after = len(ids)
        until(lambda: len(ids) > after + 1000)
    finally:
        leaving.set()
        application.join()
    assert trail.flush(120)
    assert trail.shutdown(5) == 0
    remaining = patient.model_copy(
        update={"opensearch_url": tuple(node.url for name, node in nodes.items() if name != elected)}
    )
    until(lambda: client.request("GET", "/_cat/cluster_manager", params={"format": "json"})[0]["node"] != elected)
    reckon(remaining, ids)
    client.close()
