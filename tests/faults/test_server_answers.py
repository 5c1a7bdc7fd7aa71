"""A proxy that commits faults of every kind by chance, over thousands of events, each run repeatable by its seed."""

import threading
from random import Random

import pytest

from audit_logging.capture.trail import Trail
from audit_logging.shipping.shipper import Shipper
from audit_logging.spool.directory import SpoolDirectory
from tests.faults.reckoning import reckon

pytestmark = pytest.mark.server


@pytest.mark.parametrize("seed", range(6))
def test_all_faults_together(seed, proxy, through_proxy, prepared, client):
    """With a rollover now and then: each event once, in order, without a gap, and none in quarantine."""
    random = Random(seed)
    proxy.anything(Random(seed), 0.4, late_seconds=1.2)
    trail = Trail(through_proxy)
    ids = []
    for _ in range(5):
        ids += [trail.emit("user.login", {"user_id": f"u-{number}"}) for number in range(random.randrange(1, 300))]
        trail.flush(0.3)
        client.request("POST", f"/{prepared.stream}/_rollover")
    proxy.chance = None
    assert trail.flush(60)
    assert trail.shutdown(5) == 0
    reckon(prepared, ids)


@pytest.mark.parametrize("seed", range(3))
def test_shippers_that_are_stopped_in_the_middle_of_it(seed, proxy, through_proxy, prepared, client):
    """Process after process takes over what the one before left, whatever it was doing; every copy is physical."""
    random = Random(seed)
    proxy.anything(Random(seed), 0.5, late_seconds=0.3)
    trail = Trail(through_proxy)
    ids = [trail.emit("user.login", {"user_id": f"u-{number}"}) for number in range(400)]
    trail.shutdown(random.random())
    directory = SpoolDirectory(through_proxy.spool_path, through_proxy.stream)
    for _ in range(5):
        shipper = Shipper(through_proxy, directory, None)
        shipper.start()
        shipper.finish(random.random())
        client.request("POST", f"/{prepared.stream}/_rollover")
    proxy.chance = None
    shipper = Shipper(through_proxy, directory, None)
    shipper.start()
    assert shipper.finish(60)
    assert directory.writers() == []
    reckon(prepared, ids)


def test_two_shippers_on_one_spool(through_proxy, prepared, proxy):
    """Each writer is shipped by one of them."""
    ids = []
    for _ in range(6):
        trail = Trail(through_proxy.model_copy(update={"opensearch_url": ()}))
        ids += [trail.emit("user.login", {"user_id": f"u-{number}"}) for number in range(50)]
        trail.shutdown(0)
    directory = SpoolDirectory(through_proxy.spool_path, through_proxy.stream)
    shippers = [Shipper(through_proxy, directory, None) for _ in range(2)]
    for shipper in shippers:
        shipper.start()
    threads = [threading.Thread(target=shipper.finish, args=(60,)) for shipper in shippers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert directory.writers() == []
    assert sum(body.count(b"\n") // 2 for body in proxy.bulk_requests) == len(ids)
    assert sum(shipper.shipped for shipper in shippers) == len(ids)
    reckon(prepared, ids)
