"""Reading the trail: filters, search, counts, statistics, export."""

from audit_logging.query.event import Event
from audit_logging.query.filter import Filter
from audit_logging.query.reader import AuditReader
from audit_logging.query.results import Bucket, ExportReport, Interval, Page, Statistics

__all__ = [
    "AsyncAuditReader",
    "AuditReader",
    "Bucket",
    "Event",
    "ExportReport",
    "Filter",
    "Interval",
    "Page",
    "Statistics",
]
