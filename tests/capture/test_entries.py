"""All ways in give the same document for the same facts."""

import asyncio
import inspect
import io
import logging
import logging.config

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

import audit_logging as audit
from audit_logging.capture.processors import KEY

log = audit.get_logger()

FACTS = {
    "user_id": "u-42",
    "source_ip": "203.0.113.7",
    "outcome": "failure",
    "reason": "bad password",
    "method": "totp",
    "basket": {"items": [1, 2.5]},
    "message": "User could not log in",
}


def comparable(event):
    """Leave out what differs from event to event."""
    kept = {key: value for key, value in event.items() if key != "@timestamp"}
    kept["event"] = {key: value for key, value in event["event"].items() if key != "id"}
    return kept


def through_typed_call(facts):
    log.user_login(**facts)


def through_emit(facts):
    log.emit("user.login", **facts)


def through_aemit(facts):
    asyncio.run(log.aemit("user.login", **facts))


def through_bound_logger(facts):
    log.bind(**facts).user_login()


def through_context(facts):
    with audit.context(**facts):
        log.user_login()


def through_structlog_context(facts):
    with structlog.contextvars.bound_contextvars(**facts):
        log.user_login()


def through_tap(facts):
    tap = structlog.wrap_logger(
        structlog.PrintLogger(io.StringIO()),
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            audit.AuditProcessor(),
            structlog.processors.JSONRenderer(default=repr),
        ],
    )
    rest = {key: value for key, value in facts.items() if key != "message"}
    tap.info(facts["message"], audit="user.login", **rest)


def through_handler(facts):
    logger = logging.Logger("shop")
    logger.addHandler(audit.AuditHandler())
    rest = {key: value for key, value in facts.items() if key != "message"}
    logger.info(facts["message"].replace("%", "%%"), extra={"audit": "user.login", **rest})


def through_structlog_and_handler(facts):
    logger = logging.Logger("shop")
    logger.addHandler(audit.AuditHandler())
    wrapped = structlog.wrap_logger(
        logger,
        processors=[structlog.stdlib.add_log_level, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    rest = {key: value for key, value in facts.items() if key != "message"}
    wrapped.info(facts["message"], audit="user.login", **rest)


ENTRIES = [entry for name, entry in list(globals().items()) if name.startswith("through_")]

fact_values = st.one_of(
    st.text(max_size=10), st.integers(), st.floats(), st.lists(st.integers(), max_size=2), st.binary(max_size=3)
)


class TestSameDocument:
    @pytest.mark.parametrize("entry", ENTRIES)
    def test_every_entry_gives_the_document_of_the_typed_call(self, entry):
        """The same facts, the same document, whichever way they come in."""
        with audit.record_events(service="shop") as events:
            through_typed_call(FACTS)
            entry(FACTS)
        assert len(events) == 2
        assert comparable(events[1]) == comparable(events[0])

    @given(
        st.dictionaries(st.sampled_from(["user_id", "source_ip", "tags", "colour", "size", "changes"]), fact_values),
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(lambda text: "%" not in text),
    )
    def test_whatever_the_facts(self, facts, message):
        """Also for values that do not validate."""
        with audit.record_events(on_invalid="record") as events:
            for entry in (through_typed_call, through_tap, through_handler, through_structlog_and_handler):
                entry({**facts, "message": message})
        assert all(comparable(event) == comparable(events[0]) for event in events[1:])


class TestTap:
    def chain(self, *processors):
        output = io.StringIO()
        logger = structlog.wrap_logger(
            structlog.PrintLogger(output), processors=[*processors, structlog.processors.JSONRenderer(default=repr)]
        )
        return logger, output

    def test_marked_events_pass_on_without_the_mark(self):
        """The rest of the chain sees the event as an ordinary one."""
        logger, output = self.chain(audit.AuditProcessor())
        with audit.record_events() as events:
            logger.info("User logged in", audit="user.login", durability="process", user_id="u-42")
            logger.info("Not for the trail", user_id="u-42")
        assert events.types() == ["user.login"]
        assert (
            output.getvalue()
            == '{"user_id": "u-42", "event": "User logged in"}\n{"user_id": "u-42", "event": "Not for the trail"}\n'
        )

    def test_an_exception_is_named_without_its_traceback(self):
        """A traceback's locals may hold secrets."""
        logger, _ = self.chain(audit.AuditProcessor(), structlog.processors.format_exc_info)
        with audit.record_events() as events:
            try:
                raise ValueError("bad")
            except ValueError:
                logger.exception("Failed", audit="job.failed")
        assert events[0]["audit"]["metadata"] == {"exception": "ValueError: bad"}

    def test_public_processors_work_alone_in_any_chain(self):
        """Each enriches an application's own chain without a trail."""
        logger, output = self.chain(
            audit.merge_context, audit.add_event_id, audit.add_timestamp, audit.add_severity, audit.RedactKeys(["iban"])
        )
        with audit.context(user_id="u-42"):
            logger.info("x", **{KEY: "user.login", "outcome": "failure", "form": {"iban": "DE", "password": "p"}})
        written = structlog.processors.json.loads(output.getvalue()) if hasattr(structlog.processors, "json") else None
        assert written["user_id"] == "u-42"
        assert written["severity"] == "warning"
        assert written["form"] == {"iban": "[redacted]", "password": "[redacted]"}
        assert len(written["timestamp"]) == 27
        assert len(written["event_id"]) == 36


class TestHandler:
    def test_dict_config_makes_it(self):
        """As an application's logging set-up names it; ordinary records are left alone."""
        logging.config.dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "handlers": {"audit": {"class": "audit_logging.AuditHandler", "every_record": True}},
                "loggers": {"shop.dict": {"level": "INFO", "handlers": ["audit"], "propagate": False}},
            }
        )
        logger = logging.getLogger("shop.dict")
        with audit.record_events() as events:
            logger.info("User %s logged in", "Ann", extra={"audit": "user.login", "user_id": "u-42"})
            logger.error("Disk %s", "full")
            logger.info("%d", "not a number")
            try:
                raise KeyError("k")
            except KeyError:
                logger.exception("Failed")
        logger.handlers.clear()
        assert events.types() == ["user.login", "log.recorded", "log.recorded", "log.recorded"]
        assert events[0]["message"] == "User Ann logged in"
        assert events[1]["event"]["outcome"] == "failure"
        assert events[1]["audit"]["metadata"] == {"level": "error", "logger": "shop.dict"}
        assert events[2]["message"] == "%d"
        assert events[2]["audit"]["metadata"]["log_arguments"] == ["not a number"]
        assert events[3]["audit"]["metadata"]["exception"] == "KeyError: 'k'"

    def test_records_without_mark_and_our_own_are_left_alone(self):
        """The trail never feeds on what shipping says of itself."""
        handler = audit.AuditHandler(every_record=True)
        with audit.record_events() as events:
            for name in ("audit_logging", "opensearch", "urllib3.connectionpool"):
                handler.handle(logging.LogRecord(name, logging.WARNING, "", 0, "retry", None, None))
            audit.AuditHandler().handle(logging.LogRecord("shop", logging.INFO, "", 0, "text", None, None))
        assert events == []

    def test_the_mark_is_taken_out_of_the_record(self):
        """Handlers that come later see an ordinary record."""
        record = logging.makeLogRecord({"name": "shop", "msg": "x", "audit": "user.logout", "user_id": "u"})
        with audit.record_events():
            audit.AuditHandler().handle(record)
        assert not hasattr(record, "audit")
        assert record.user_id == "u"


class TestTypedCalls:
    def test_a_missing_required_keyword_is_a_type_error(self):
        """As in any Python, and it names all that are missing."""
        with pytest.raises(TypeError, match=r"purchase_completed\(\) is missing the keywords amount, product_id"):
            log.purchase_completed(currency="EUR")
        with pytest.raises(TypeError):
            log.user_login("u-42")

    def test_an_unknown_call_suggests_the_nearest(self):
        """A typo is told at once."""
        with pytest.raises(AttributeError, match="did you mean 'user_login'"):
            log.user_logn()
        with pytest.raises(AttributeError, match="register"):
            log.quux()
        with pytest.raises(AttributeError):
            log.audit_started()

    def test_calls_have_signature_and_documentation(self):
        """For editors, help() and humans."""
        signature = inspect.signature(log.purchase_completed)
        required = [
            name
            for name, one in signature.parameters.items()
            if one.default is one.empty and one.kind is one.KEYWORD_ONLY
        ]
        assert required == ["amount", "currency", "product_id"]
        assert "user_id" in signature.parameters
        assert "purchase.completed" in log.purchase_completed.__doc__
        assert "user_login" in dir(log)

    def test_a_registered_type_has_its_call(self):
        """The same typed call as the core types."""
        from pydantic import BaseModel

        class Approval(BaseModel):
            invoice_id: str

        audit.register_event_type("invoice.signed", fields=Approval, severity="warning")
        with audit.record_events() as events:
            log.invoice_signed(invoice_id="i-1", user_id="u-42")
            with pytest.raises(TypeError, match="invoice_id"):
                log.invoice_signed()
        assert events.one("invoice.signed")["audit"]["metadata"] == {"invoice_id": "i-1"}
        assert events[0]["log"]["level"] == "warning"


class TestRecordedEvents:
    def test_one_explains_what_was_emitted_instead(self):
        """A failing test of an application says why."""
        with audit.record_events() as events:
            log.user_logout()
        with pytest.raises(AssertionError, match=r"0 events 'user\.login', not one; emitted were \['user\.logout'\]"):
            events.one("user.login")

    def test_invalid_values_raise_in_tests(self):
        """A test should hear of what production would only mark."""
        with audit.record_events(), pytest.raises(audit.errors.InvalidEventError):
            log.user_login(source_ip="nope")

    def test_the_trail_before_is_back_afterwards(self):
        """Recording nests and leaves nothing behind."""
        with audit.record_events() as outer:
            with audit.record_events() as inner:
                log.user_logout()
            log.user_login()
        assert (inner.types(), outer.types()) == (["user.logout"], ["user.login"])
