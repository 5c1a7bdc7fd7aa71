"""Spools as a process that died left them."""

from audit_logging.spool.directory import SpoolDirectory
from audit_logging.spool.writer import SpoolWriter

WRITER = "0123456789abcdef0123"


def write_spool(path, payloads, *, writer=WRITER, stream="audit-events"):
    """Write *payloads* as a writer's records, and return its directory."""
    directory = SpoolDirectory(path, stream).create(writer)
    spool = SpoolWriter(directory.path, writer, 1 << 20)
    for payload in payloads:
        spool.append(payload)
    spool.close()
    directory.release()
    return directory.path
