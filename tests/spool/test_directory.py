"""Who ships what: two locks a writer, of which one is its life and the other the shipping."""

import fcntl
import logging
import os

import pytest

from audit_logging.errors import SettingsError, SpoolWriteError
from audit_logging.spool.directory import SpoolDirectory
from audit_logging.spool.reader import SpoolReader
from audit_logging.spool.writer import SpoolWriter

from .conftest import fill

WRITER = "0123456789abcdef0123"


@pytest.fixture
def spool(tmp_path):
    return SpoolDirectory(tmp_path / "spool")


def names(directories):
    return [directory.writer for directory in directories]


HOLD = """
import sys
from pathlib import Path
from audit_logging.spool.directory import SpoolDirectory
held = SpoolDirectory(Path(sys.argv[1])).create(sys.argv[2], ships=sys.argv[3] == "ships")
print("held")
sys.stdin.read()
"""


class TestAdoption:
    def test_a_living_writer_is_not_adopted_and_a_dead_one_is(self, spool, program):
        """The lock goes with the process, however it ends."""
        other = program(HOLD, spool.path, WRITER, "ships")
        assert other.stdout.readline() == "held\n"
        assert list(spool.adopt()) == []
        other.kill()
        other.wait()
        (adopted,) = spool.adopt()
        assert adopted.writer == WRITER
        assert list(spool.adopt()) == list(spool.claim()) == [], "adopted once, it is this process's"
        adopted.remove()
        assert [path for path in spool.path.iterdir() if path.is_dir()] == []

    def test_what_is_given_up_is_adopted_by_the_next(self, spool):
        """Whoever cannot ship it all leaves the rest."""
        spool.create(WRITER).release()
        for _ in range(2):
            (adopted,) = spool.adopt()
            adopted.release()
        assert spool.writers() == [adopted.path]

    def test_another_stream_is_left_to_its_own(self, spool):
        """Neither adopted nor claimed."""
        spool.create(WRITER).release()
        other = SpoolDirectory(spool.path, "audit-other")
        assert list(other.adopt()) == list(other.claim()) == []

    def test_a_dead_writer_whose_shipping_goes_on_is_left_alone(self, spool):
        """A sidecar claimed it while it lived."""
        living = spool.create(WRITER, ships=False)
        (claimed,) = spool.claim()
        living.release()
        assert list(spool.adopt()) == []
        assert claimed.take_over(), "the adopter gave the writer's lock back"
        claimed.remove()

    def test_two_adopters_never_get_the_same(self, spool, program):
        """Of many racing processes one gets each directory, and it is shipped by that one alone."""
        script = """
            import sys
            from pathlib import Path
            from audit_logging.spool.directory import SpoolDirectory
            spool = SpoolDirectory(Path(sys.argv[1]))
            print("ready")
            sys.stdin.readline()
            for directory in (spool.claim if sys.argv[2] == "claim" else spool.adopt)():
                if directory.take_over():
                    print(directory.writer)
                    directory.remove()
                else:  # an adopter held the writer's lock for a moment, and could not have the shipping
                    directory.release()
            print("end")
        """
        writers = [f"{number:020x}" for number in range(300)]
        for writer in writers:
            spool.create(writer).release()
        racers = [program(script, spool.path, how) for how in ("adopt", "claim", "adopt", "claim")]
        for racer in racers:
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()
        got = [line.strip() for racer in racers for line in iter(racer.stdout.readline, "end\n")]
        assert len(got) == len(set(got)), "no writer had two shippers"
        left = names(spool.adopt())
        assert sorted(got + left) == writers


class TestClaim:
    def test_the_living_are_claimed_when_nobody_ships_them(self, spool, program):
        """Applications that only write, beside one that ships itself."""
        silent, shipping = f"{1:020x}", f"{2:020x}"
        processes = [program(HOLD, spool.path, silent, "writes"), program(HOLD, spool.path, shipping, "ships")]
        for process in processes:
            assert process.stdout.readline() == "held\n"
        (claimed,) = spool.claim()
        assert (claimed.writer, claimed.take_over()) == (silent, False)
        assert list(spool.claim()) == [], "one shipper at a time"
        processes[0].kill()
        processes[0].wait()
        assert claimed.take_over()
        assert claimed.take_over(), "once dead, dead for good"
        claimed.remove()
        assert [path.name for path in spool.writers()] == [shipping]

    def test_a_shipper_that_dies_leaves_the_shipping_to_the_next(self, spool, program):
        """The sidecar is killed; the writer lives on."""
        living = spool.create(WRITER, ships=False)
        sidecar = program(
            """
            import sys
            from pathlib import Path
            from audit_logging.spool.directory import SpoolDirectory
            claimed = list(SpoolDirectory(Path(sys.argv[1])).claim())
            print(len(claimed))
            sys.stdin.read()
            """,
            spool.path,
        )
        assert sidecar.stdout.readline() == "1\n"
        assert list(spool.claim()) == []
        sidecar.kill()
        sidecar.wait()
        (claimed,) = spool.claim()
        assert not claimed.take_over()
        claimed.release()
        living.release()

    def test_what_is_written_before_the_death_is_read_after_the_take_over(self, spool):
        """Ask whether it is dead first, then read to the end: nothing can come in between."""
        living = spool.create(WRITER, ships=False)
        writer = SpoolWriter(living.path, WRITER, 4096)
        writer.append(b"a" * 5000)
        (claimed,) = spool.claim()
        reader = SpoolReader(claimed.path)
        assert len(reader.read(1 << 20)) == 1
        assert not claimed.take_over()
        assert reader.acknowledge(1) == 0
        writer.append(b"b")
        assert reader.acknowledge(1) > 0, "the segment is removed while its writer lives"
        writer.close()
        living.release()
        assert claimed.take_over()
        assert [record.payload for record in reader.read(1 << 20)] == [b"b"]
        claimed.remove()


class TestLeftovers:
    def test_removing_is_one_step(self, spool, program):
        """Killed in the middle, it leaves no half writer, and the next shipper sweeps up."""
        spool.create(WRITER).release()
        process = program(
            """
            import os, shutil, signal, sys
            from pathlib import Path
            from audit_logging.spool.directory import SpoolDirectory
            shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
            for directory in SpoolDirectory(Path(sys.argv[1])).adopt():
                directory.remove()
            """,
            spool.path,
        )
        process.wait(20)
        assert spool.writers() == []
        assert list(spool.adopt()) == []
        assert [path for path in spool.path.iterdir() if path.is_dir()] == []

    def test_who_died_while_it_was_born_is_swept(self, spool, program):
        """Once it is old, and only when nobody holds its lock."""
        script = """
            import os, signal, sys
            from pathlib import Path
            from audit_logging.spool.directory import SpoolDirectory
            if sys.argv[3] == "locked":
                Path.rename = lambda *_: print("there") or sys.stdin.read()
            else:
                os.open = lambda *_, **__: print("there") or sys.stdin.read()
            SpoolDirectory(Path(sys.argv[1])).create(sys.argv[2])
        """
        unborn = [spool.path / f".{number:020x}.new" for number in range(3)]
        births = [
            program(script, spool.path, f"{number:020x}", how) for number, how in enumerate(("", "locked", "locked"))
        ]
        for birth in births:
            assert birth.stdout.readline() == "there\n"
        for birth in births[:2]:
            birth.kill()
            birth.wait()
        assert list(spool.adopt()) == []
        assert all(path.exists() for path in unborn), "they are young"
        for path in unborn:
            os.utime(path, (0, 0))
        assert list(spool.adopt()) == []
        assert list(spool.path.iterdir()) == unborn[2:], "one lives"

    def test_a_birth_that_fails_leaves_nothing_and_may_be_tried_again(self, small_disk):
        """A full disk, then room."""
        spool = SpoolDirectory(small_disk / "spool")
        spool.path.mkdir()
        filler = fill(small_disk)
        with pytest.raises(SpoolWriteError, match="make room"):
            spool.create(WRITER)
        assert [path for path in spool.path.iterdir() if path.is_dir()] == []
        filler.unlink()
        spool.create(WRITER).release()

    def test_a_spool_that_cannot_be_opened_is_said_once_and_harms_no_other(self, spool, caplog):
        """A link where a lock should be, in this case; another user's directory in real life."""
        strange, fine = f"{1:020x}", f"{2:020x}"
        for writer in (strange, fine):
            spool.create(writer).release()
        for lock in ("lock", "shipping"):
            (spool.path / strange / lock).unlink()
            (spool.path / strange / lock).symlink_to("/etc/hostname")
        with caplog.at_level(logging.ERROR, "audit_logging"):
            for take in (spool.adopt, spool.claim, spool.adopt):
                (taken,) = take()
                assert taken.writer == fine
                taken.release()
        assert caplog.text.count("cannot be opened") == 1

    def test_a_directory_that_goes_between_opening_and_locking_is_no_error(self, spool, monkeypatch):
        """Its last owner removes it just then, so the lock is won, and worth nothing."""
        spool.create(WRITER).release()
        (owner,) = spool.adopt()
        lock = fcntl.flock

        def lock_late(descriptor, operation):
            monkeypatch.setattr(fcntl, "flock", lock)
            owner.remove()
            lock(descriptor, operation)

        monkeypatch.setattr(fcntl, "flock", lock_late)
        assert list(spool.claim()) == []

    def test_a_directory_that_goes_meanwhile_is_no_error(self, spool):
        """Another shipper was faster."""
        for number in (1, 2):
            spool.create(f"{number:020x}").release()
        adopting = spool.adopt()
        first = next(adopting)
        (other,) = SpoolDirectory(spool.path).adopt()
        other.remove()
        assert list(adopting) == []
        first.remove()


class TestCreation:
    def test_a_spool_that_cannot_be_made_says_what_to_do(self, tmp_path):
        """One sentence that names the setting."""
        (tmp_path / "file").write_text("")
        with pytest.raises(SettingsError, match="spool_dir"):
            SpoolDirectory(tmp_path / "file").create(WRITER)
        with pytest.raises(SpoolWriteError, match="spool_dir"):
            SpoolDirectory(tmp_path / ("long" * 100)).create(WRITER)

    @pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
    def test_a_directory_that_others_may_write_is_refused(self, spool, mode):
        """They could put their events in the place of ours."""
        spool.path.mkdir()
        spool.path.chmod(mode)
        with pytest.raises(SettingsError, match=f"chmod 700 {spool.path}"):
            spool.create(WRITER)
        assert [path for path in spool.path.iterdir() if path.is_dir()] == []
        spool.path.chmod(0o755)
        spool.create(WRITER).release()

    def test_a_link_is_refused_and_its_target_named(self, tmp_path):
        """Whoever may turn it leads the trail elsewhere. Links above it are the machine's affair."""
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        with pytest.raises(SettingsError, match=f"symbolic link.*{tmp_path}/real"):
            SpoolDirectory(tmp_path / "link").create(WRITER)
        SpoolDirectory(tmp_path / "link" / "below").create(WRITER).release()

    def test_a_directory_of_another_user_is_refused(self, spool):
        """Root could write there, and its owner could not ship what root has written."""
        if os.getuid():
            pytest.skip("only root can give a directory away")
        spool.path.mkdir(mode=0o700)
        os.chown(spool.path, 65534, -1)
        with pytest.raises(SettingsError, match=r"belongs to another user \(65534"):
            spool.create(WRITER)

    def test_another_users_directory_says_what_to_do(self, tmp_path, program):
        """Not as root, who may write everywhere."""
        if os.getuid():
            pytest.skip("only root can become another user")
        process = program(
            """
            import os, sys
            from pathlib import Path
            from audit_logging.errors import SettingsError
            from audit_logging.spool.directory import SpoolDirectory
            from audit_logging.spool import cursor
            os.setuid(65534)
            try:
                SpoolDirectory(Path("/nobody/spool")).create("0" * 20)
            except SettingsError as error:
                print(error)
            """,
        )
        assert "cannot be written by this user" in process.stdout.readline()
