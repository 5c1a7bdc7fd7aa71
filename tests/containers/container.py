"""A container made of namespaces: its own root (read-only), processes, mounts and user; only the network is shared."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.waiting import until

PROJECT = Path(__file__).parents[2]
USER = 54321
"""A uid that no passwd file has."""

GROUP = 2000
"""What Kubernetes calls ``fsGroup``: volumes are given to it, and the process is in it."""

_SYSTEM = [Path(name) for name in ("/usr", "/bin", "/sbin", "/lib", "/lib64")]
_DEVICES = [Path("/dev", name) for name in ("null", "zero", "random", "urandom")]
_NEEDED = [*map(Path, ("/etc/ld.so.cache", "/etc/ssl")), PROJECT, Path(sys.prefix), Path(sys.base_prefix)]


def kernel_refuses():
    """Return why no container can be made here; an empty text where one can."""
    command = ["unshare", "--mount", "--pid", "--fork", "--propagation", "private", "mount", "-t", "tmpfs", "-", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stderr.strip()
    except FileNotFoundError:
        return "it is not Linux"


REFUSAL = kernel_refuses()
in_containers = pytest.mark.skipif(bool(REFUSAL), reason=f"the kernel refuses namespaces: {REFUSAL}")


@dataclass(frozen=True)
class Volume:
    """A directory of the host, seen in the container at *at*."""

    source: Path
    at: str
    read_only: bool = False

    @property
    def options(self):
        """Mount options."""
        return "bind,ro" if self.read_only else "bind"


class Container:
    """Runs commands, each as the first process (PID 1) of a container of its own.

    Args:
        root: An empty directory, on which the root is mounted.
        volumes: What is mounted in it.
        user: Its uid.
        group: Its gid; 0, as OpenShift has it.
        groups: Further groups of the process.
    """

    def __init__(self, root, *volumes, user=USER, group=0, groups=()):
        self.root, self.volumes, self.user, self.group, self.groups = root, volumes, user, group, groups

    def _script(self, command, environment):
        mounts = [(path, str(path), "bind,ro") for path in (*_SYSTEM, *_NEEDED) if path.exists()]
        mounts += [(path, str(path), "bind") for path in _DEVICES]
        mounts += [(volume.source, volume.at, volume.options) for volume in self.volumes]
        lines = ["set -e", f"root={shlex.quote(str(self.root))}", "mount -t tmpfs -o mode=755 root $root", "umask 022"]
        for source, at, options in mounts:
            target = f"$root{shlex.quote(at)}"
            if source.is_symlink() and source in _SYSTEM:
                lines.append(f"ln -s {shlex.quote(str(source.readlink()))} {target}")
                continue
            make = f"mkdir -p {target}" if source.is_dir() else f"mkdir -p $(dirname {target}); touch {target}"
            lines += [make, f"mount -o {options} {shlex.quote(str(source))} {target}"]
        lines += ["mkdir -p $root/proc", "mount -t proc proc $root/proc", "mount -o remount,ro $root"]
        groups = f"--groups {','.join(map(str, self.groups))}" if self.groups else "--clear-groups"
        become = f"setpriv --reuid {self.user} --regid {self.group} {groups} --bounding-set=-all --inh-caps=-all --no-new-privs --pdeathsig KILL"
        variables = shlex.join(f"{name}={value}" for name, value in environment.items())
        lines.append(f"exec chroot $root {become} env -i {variables} {shlex.join(command)}")
        return "\n".join(lines)

    def start(self, *command, **environment):
        """Start *command* with *environment* and no other variable; ``audit-logging`` is the one of these tests."""
        words = [str(Path(sys.executable).parent / "audit-logging") if command[0] == "audit-logging" else command[0]]
        words += map(str, command[1:])
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        return subprocess.Popen(
            [*namespaces, shutil.which("bash"), "-c", self._script(words, environment)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command, **environment):
        """Return how *command* ended: its exit code and output."""
        process = self.start(*command, **environment)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def python(self, program, **environment):
        """Run a Python program."""
        return self.run(sys.executable, "-c", textwrap.dedent(program), **environment)


def signal_first_process(started, number):
    """Send a signal to PID 1 of a container, as its runtime does when the container is stopped."""
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children")
    until(lambda: children.read_text().split())
    os.kill(int(children.read_text().split()[0]), number)


def secret_volume(directory, *, group=GROUP, **files):
    """Lay *files* out as the kubelet does for a Secret with ``defaultMode: 0400`` in a pod with an ``fsGroup``.

    Source: Kubernetes, pkg/volume/util/atomic_writer.go (names beginning with two dots, links) and
    pkg/volume/volume_linux.go (the group may read, directories are set-group-id); the root of the volume is a tmpfs,
    which has mode 1777.
    """
    data = directory / "..2026_03_01_00_00_00.1234567890"
    data.mkdir(parents=True)
    for name, content in files.items():
        path = data / name.replace("_", ".")
        path.write_bytes(content)
        os.chown(path, 0, group)
        path.chmod(0o440)
        (directory / path.name).symlink_to(f"..data/{path.name}")
    (directory / "..data").symlink_to(data.name)
    for each, mode in ((data, 0o2755), (directory, 0o3777)):
        os.chown(each, 0, group)
        each.chmod(mode)
    return directory


def empty_directory(directory, *, group=None):
    """Make a directory as the kubelet does for an ``emptyDir``: everybody may write into it."""
    directory.mkdir(parents=True)
    if group is not None:
        os.chown(directory, 0, group)
    directory.chmod(0o777 if group is None else 0o2777)
    return directory
