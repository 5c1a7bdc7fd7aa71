"""Whoever ships what a dead writer left is killed at every step that touches the disk or the server; others go on."""

import pytest

pytestmark = [pytest.mark.server, pytest.mark.slow]

ADOPTERS = """
import os, signal, sys
from tests.faults.dying import die_at
from tests.faults.emitting import emit
import audit_logging
from audit_logging.capture.sidecar import sidecar
from audit_logging.settings import Settings

STEPS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "socket.connect", "fcntl.flock"}

def child(does):
    process = os.fork()
    if not process:
        does()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

def live():
    for number in range(3):
        emit(user_id=f"u-{number}")

def adopt():
    settings = Settings.load()
    die_at(step, STEPS)
    shipper = sidecar(settings)
    shipper.start()
    assert shipper.finish(30)

step, kills = int(sys.argv[1]), 0
while True:
    os.environ["AUDIT_SHIP"] = "false"
    audit_logging.configure(replace=True)
    assert child(live) == 0
    code = child(adopt)
    if code == 0:
        break
    assert code == -signal.SIGKILL, code
    kills += 1
    step += int(sys.argv[2])
print(kills)
"""


@pytest.mark.parametrize("signs", ["true", "false"])
def test_an_adopter_is_killed_at_every_step(programs, signs):
    """Whoever comes next closes the chains of all, whatever part of that was done; with signatures and without."""
    home = {"AUDIT_HOME": str(programs.settings.home), "AUDIT_SIGNING": signs}
    printed = programs.python(ADOPTERS, "1", "13", **home)
    assert int(printed.split()[-1]) > 5
    events = programs.reckon()
    assert sum(event.event_type == "user.login" for event in events) == len(programs.emitted())
