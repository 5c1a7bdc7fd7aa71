"""A Celery application whose broker is a directory, so that it needs no server."""

import os
from pathlib import Path

from celery import Celery
from celery.signals import worker_process_shutdown

import audit_logging as audit
from tests.faults.emitting import emit

QUEUE = Path(os.environ["AUDIT_TEST_QUEUE"])

app = Celery("tests")
app.conf.update(
    broker_url="filesystem://",
    broker_transport_options={
        "data_folder_in": str(QUEUE),
        "data_folder_out": str(QUEUE),
        "control_folder": str(QUEUE.with_name("control")),
        "polling_interval": 0.05,
    },
    task_acks_late=True,
    worker_prefetch_multiplier=4,  # what was fetched is worked off before the broker is asked again, after two seconds
    worker_lost_wait=0.5,  # seconds, for the result of the child that was killed
    broker_connection_retry_on_startup=False,
)


@worker_process_shutdown.connect
def ship_before_the_end(**_) -> None:
    """What stands in the guide: a pool's child ends without running what was registered for the exit."""
    audit.shutdown()


@app.task
def work(number: int) -> None:
    """Emit a few events."""
    for _ in range(3):
        emit(user_id=f"task-{number}")


@app.task(acks_late=False)
def die() -> None:
    """Emit, and kill the child of the pool."""
    emit(user_id="killed")
    os.kill(os.getpid(), 9)
