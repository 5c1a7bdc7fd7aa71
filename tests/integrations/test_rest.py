"""The trail over HTTP: what is asked is found, by whom it may be, and nothing else."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import socket
import unicodedata
from types import SimpleNamespace
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyQuery
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import audit_logging as audit
from audit_logging.capture.configuration import swap_trail
from audit_logging.capture.trail import Trail as CaptureTrail
from audit_logging.errors import IncompleteResultError, SettingsError, SpoolFullError
from audit_logging.integrations.fastapi import EXAMPLE, Access, audit_router
from audit_logging.integrations.fastapi_parameters import filter_of_query
from audit_logging.integrations.fastapi_problems import problem_of
from audit_logging.query.filter import Filter
from audit_logging.settings import Settings
from tests.query.trail import Trail, event

from .rest import Browser, application, ids

HOSTILE = "<script>alert(1)</script> \u202egpj.exe \x1b[2J \x9b31m =cmd|' /C calc'!A0 \u2028 \U000e0041"
ELSEWHERE = Settings.load(opensearch_url="http://127.0.0.1:9", opensearch_username="reader", opensearch_password="pw-1")


@pytest.fixture
def trail(settings, client):
    return Trail(settings, client)


@pytest.fixture
def two_tenants(trail):
    """Ten events of two tenants and of none, one a minute."""
    for number in range(10):
        trail.add(
            event(
                f"e-{number}",
                f"2026-03-01T12:{number:02}:00.000000Z",
                organization__id=("acme", "evil", None)[number % 3],
                user__id=f"u-{number % 2}",
            )
        )


@pytest.fixture
def browser(settings):
    return Browser(application(settings))


class TestAccess:
    def test_there_is_no_router_without_authorisation(self):
        with pytest.raises(TypeError):
            audit_router()
        with pytest.raises(SettingsError, match="authorisation"):
            audit_router(access=None)

    @pytest.mark.parametrize("limit", [0, 10_001, True, "5"])
    def test_the_largest_limit_is_checked(self, limit):
        with pytest.raises(SettingsError, match="max_limit"):
            audit_router(access=lambda: None, max_limit=limit)

    @pytest.mark.parametrize(
        "path", ["audit-logs", "audit-logs/e-1", "audit-stats", "audit-export", "audit-logs?limit=x"]
    )
    def test_who_may_not_read_learns_nothing_but_that(self, path, audit_events):
        browser = Browser(application(ELSEWHERE))
        assert browser.problem(path, 401, user="")["detail"] == "log in first"
        assert browser.get(path, user="").headers["www-authenticate"] == "Session"
        assert browser.problem(path, 403, user="mallory")["detail"] == "auditors only"
        assert set(audit_events.types()) == {"api.call"}

    @pytest.mark.parametrize("granted", [None, True, {"user_id": "u-1"}, SimpleNamespace(confinement={}, identity={})])
    def test_what_is_no_access_lets_nobody_in(self, granted, audit_events):
        assert "detail" in Browser(application(ELSEWHERE, access=lambda: granted)).problem("audit-logs", 500)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"user_id": ""},
            {"user_id": None},
            {"user_id": True},
            {"user_id": "u", "organization_id": ""},
            {"user_id": "u", "organization_id": ["acme"]},
        ],
    )
    def test_an_access_names_the_reader_and_no_empty_tenant(self, wrong):
        with pytest.raises(ValueError, match="not empty"):
            Access(**wrong)

    @pytest.mark.server
    def test_ids_may_be_numbers(self, two_tenants, settings, audit_events):
        browser = Browser(application(settings, access=lambda: Access(user_id=7, organization_id=42)))
        assert browser.json("audit-logs")["total"] == 0
        assert audit_events.one("audit.searched")["user"]["id"] == "7"


@pytest.mark.server
class TestSearch:
    def test_pages_follow_each_other_within_the_limit(self, two_tenants, browser, audit_events):
        first = browser.json("audit-logs", limit=4, sort="oldest")
        second = browser.json("audit-logs", limit=4, sort="oldest", cursor=first["cursor"])
        third = browser.json("audit-logs", limit=4, sort="oldest", cursor=second["cursor"])
        assert [ids(page["events"]) for page in (first, second, third)] == [
            ["e-0", "e-1", "e-2", "e-3"],
            ["e-4", "e-5", "e-6", "e-7"],
            ["e-8", "e-9"],
        ]
        assert (first["total"], third["cursor"]) == (10, None)

    def test_there_are_no_more_rows_than_the_limit(self, two_tenants, settings, audit_events):
        browser = Browser(application(settings, max_limit=3))
        assert len(browser.json("audit-logs")["events"]) == 3
        browser.problem("audit-logs", 422, limit=4)
        assert len(browser.json("audit-stats", by="user")["buckets"]) == 2
        browser.problem("audit-stats", 422, top=4)
        problem = browser.problem("audit-stats", 422, interval="1m")
        assert "choose a longer interval" in problem["detail"]

    def test_the_conditions_are_those_of_the_filter(self, two_tenants, browser, audit_events):
        found = browser.json(
            "audit-logs?not_user_id=u-1&since=2026-03-01T12:02:00Z&organization_id=acme&organization_id=evil"
        )
        assert ids(found["events"]) == ["e-6", "e-4"]

    def test_an_event_is_got_by_either_id(self, trail, browser, audit_events):
        trail.add(event("a/b c"), writer="w7")
        assert browser.json("audit-logs/a/b c")["event"]["id"] == "a/b c"
        assert browser.json("audit-logs/00000000000000007737-1")["event"]["id"] == "a/b c"
        assert "no such event" in browser.problem("audit-logs/00000000000000007737-2", 404)["detail"]

    def test_statistics_are_those_of_the_reader(self, two_tenants, browser, settings, audit_events):
        asked = {"by": "user", "interval": "5m", "top": 5, "since": "2026-03-01", "until": "2026-03-02"}
        with audit.AuditReader(settings=settings) as reader:
            expected = reader.statistics(**asked, compare=True)
        assert browser.json("audit-stats", **asked, compare=True) == expected.model_dump(mode="json")

    def test_no_other_stream_can_be_read(self, two_tenants, browser, audit_events):
        for name in ("stream", "index", "_index"):
            browser.problem(f"audit-logs?{name}=other", 422)


@pytest.mark.server
class TestTenants:
    def test_every_question_stays_within_the_tenant(self, two_tenants, browser, audit_events):
        mine = ["e-9", "e-6", "e-3", "e-0"]
        assert ids(browser.json("audit-logs", user="ann")["events"]) == mine
        assert ids(browser.json("audit-logs?organization_id=evil&limit=9", user="ann")["events"]) == mine
        assert browser.json("audit-logs?organization_id=evil&not_organization_id=acme", user="ann")["events"] == []
        assert browser.json("audit-stats?by=user&organization_id=evil", user="ann")["total"] == 4
        rows = browser.get("audit-export?organization_id=evil", user="ann").text.splitlines()
        assert ids(map(json.loads, rows)) == mine[::-1]
        filters = {
            str(each["audit"]["metadata"]["filter"].get("organization_id"))
            for each in audit_events.of("audit.searched")
        }
        assert filters == {"['acme']"}

    def test_no_event_of_another_tenant_is_got_by_its_id(self, two_tenants, browser, audit_events):
        assert browser.json("audit-logs/e-1", user="eve")["event"]["id"] == "e-1"
        there = browser.problem("audit-logs/e-1", 404, user="ann")
        nowhere = browser.problem("audit-logs/e-77", 404, user="ann")
        browser.problem("audit-logs/00000000000000007731-2", 404, user="ann")
        browser.problem("audit-logs/e-2", 404, user="ann")
        assert {**there, "request_id": ""} == {**nowhere, "request_id": ""}
        browser.problem("audit-logs/e-1?organization_id=evil", 422, user="ann")

    def test_an_event_of_another_tenant_with_the_same_id_hides_none(self, trail, browser, audit_events):
        trail.add(
            event("same", "2026-03-01T12:00:00.000000Z", organization__id="evil"),
            event("same", "2026-03-01T13:00:00.000000Z", organization__id="acme"),
        )
        assert browser.json("audit-logs/same", user="ann")["organization"]["id"] == "acme"

    def test_a_cursor_of_another_tenant_leads_nowhere(self, two_tenants, browser, audit_events):
        cursor = browser.json("audit-logs", user="eve", limit=1)["cursor"]
        assert "another search" in browser.problem("audit-logs", 422, user="ann", limit=1, cursor=cursor)["detail"]
        unconfined = browser.json("audit-logs", limit=1)["cursor"]
        browser.problem("audit-logs", 422, user="ann", cursor=unconfined)


@pytest.mark.server
class TestRecords:
    def test_every_reading_is_an_event_with_reader_filter_and_rows(self, two_tenants, browser, settings, audit_events):
        browser.get("audit-logs?user_id=u-1&limit=3&since=-900d")
        browser.get("audit-logs/e-1")
        browser.get("audit-logs/nothing")
        browser.get("audit-stats?by=user&interval=1h")
        browser.get("audit-export?user_id=u-1")
        readings = [each for each in audit_events if each["event"]["action"] != "api.call"]
        told = [
            (
                each["event"]["action"],
                *(each["audit"]["metadata"].get(name) for name in ("query", "filter", "record_count")),
            )
            for each in readings
        ]
        assert told == [
            ("audit.searched", "search", {"user_id": ["u-1"], "since": "-900d"}, 3),
            ("audit.searched", "get", {"event_id": "e-1"}, 1),
            ("audit.searched", "get", {"event_id": "nothing"}, 0),
            ("audit.searched", "statistics", {}, 3),
            ("audit.searched", "export", {"user_id": ["u-1"]}, None),
            ("audit.exported", "export", {"user_id": ["u-1"]}, 5),
        ]
        for each in readings:
            assert each["user"] == {"id": "u-root", "name": "root"}
            assert each["source"]["ip"] == "203.0.113.7"
            assert each["audit"]["metadata"]["resource"] == settings.stream
            assert each["event"]["outcome"] == "success"

    def test_the_request_of_a_reading_names_the_reader(self, two_tenants, browser, audit_events):
        browser.get("audit-logs", user="ann")
        call = audit_events.one("api.call")
        assert (call["user"]["id"], call["organization"]["id"]) == ("u-ann", "acme")
        assert call["http"]["route"] == "/admin/audit-logs"

    def test_a_tenant_finds_the_readings_of_its_own(self, two_tenants, browser, audit_events):
        browser.get("audit-logs", user="ann")
        recorded = audit_events.one("audit.searched")
        assert (recorded["user"]["id"], recorded["organization"]["id"]) == ("u-ann", "acme")

    def test_each_reading_is_one_event_whatever_the_setting(self, two_tenants, settings, audit_events):
        Browser(application(settings.model_copy(update={"audit_searches": True}))).json("audit-logs")
        assert len(audit_events.of("audit.searched")) == 1

    @pytest.mark.parametrize("path", ["audit-logs", "audit-logs/e-1", "audit-stats", "audit-export"])
    def test_what_cannot_be_recorded_is_not_answered(self, two_tenants, settings, tmp_path, path):
        (tmp_path / "file").touch()
        broken = settings.model_copy(update={"spool_dir": tmp_path / "file", "opensearch_url": ()})
        app = FastAPI()
        app.include_router(audit_router(access=lambda: Access(user_id="u-1"), settings=settings))
        before = swap_trail(CaptureTrail(broken))
        try:
            problem = Browser(app).problem(path, 503)
        finally:
            swap_trail(before)
        assert "e-1" not in str(problem)
        assert str(tmp_path) not in str(problem)

    def test_the_trail_of_the_process_is_read_unless_another_is_named(self, two_tenants, settings):
        app = FastAPI()
        app.include_router(audit_router(access=lambda: Access(user_id="u-1")))
        with audit.record_events(opensearch_url=settings.opensearch_url, stream=settings.stream):
            assert Browser(app).json("audit-logs")["total"] == 10
        with audit.record_events(opensearch_url="http://127.0.0.1:9"):
            Browser(app).problem("audit-logs", 503)


class TestProblems:
    @pytest.mark.parametrize("path", ["audit-logs", "audit-logs/e-1", "audit-stats", "audit-export"])
    @pytest.mark.parametrize("debug", [False, True])
    def test_a_server_that_is_away_is_no_secret_told(self, path, debug, audit_events):
        app = application(ELSEWHERE)
        app.debug = debug
        problem = Browser(app).problem(path, 503)
        assert problem["request_id"] == audit_events.one("api.call")["http"]["request"]["id"]
        for secret in ("127.0.0.1", "Traceback", "pw-1", "reader", ".py"):
            assert secret not in str(problem)

    @pytest.mark.server
    def test_so_is_a_stream_that_is_not_there(self, browser, settings, audit_events):
        problem = browser.problem("audit-logs", 503)
        assert settings.stream not in str(problem)
        browser.problem("audit-logs/e-1", 503)

    def test_no_configured_server_is_a_problem_too(self, audit_events):
        app = application(Settings.load())
        assert "log says why" in Browser(app).problem("audit-logs", 503)["detail"]

    @pytest.mark.parametrize("debug", [False, True])
    def test_what_is_unforeseen_shows_no_stack(self, debug, audit_events, caplog):
        def access():
            raise RuntimeError("hunter2")

        app = application(ELSEWHERE, access=access)
        app.debug = debug
        problem = Browser(app).problem("audit-logs", 500)
        assert "hunter2" not in str(problem)
        assert "Traceback" not in str(problem)
        assert "hunter2" in caplog.text  # the operator is told

    def test_an_answer_of_the_applications_own_stays_its_own(self, audit_events):
        class NotLoggedInError(Exception):
            pass

        def access(how: Annotated[str, Query()]):
            if how == "exception":
                raise NotLoggedInError
            if how == "redirect":
                raise HTTPException(303, headers={"location": "/login"})
            raise HTTPException(403, {"detail": "too low", "level": 2, "status": 1})

        app = application(ELSEWHERE, access=access)
        app.exception_handler(NotLoggedInError)(lambda *_: JSONResponse({"log": "in"}, 418))
        browser = Browser(app)
        assert browser.get("audit-logs", how="exception").status_code == 418
        assert browser.get("audit-logs", how="redirect").headers["location"] == "/login"
        refused = browser.problem("audit-logs", 403, how="dict")
        assert (refused["detail"], refused["level"]) == ("too low", 2)

    def test_a_status_that_nobody_knows_is_passed_on(self, audit_events):
        def access():
            raise HTTPException(499, "gone")

        assert Browser(application(ELSEWHERE, access=access)).problem("audit-logs", 499)["title"] == "Unknown"

    @pytest.mark.parametrize(
        ("error", "sentence"),
        [
            (IncompleteResultError("2 of 3 shards at 10.0.0.1 failed"), "Only a part of the answer"),
            (SpoolFullError("/var/spool is full", event_id=None, state="refused"), "could not be recorded"),
        ],
    )
    def test_what_may_pass_is_told_as_that(self, error, sentence):
        answer = problem_of(error, {})
        assert answer.status_code == 503
        assert sentence in answer.body.decode()
        assert str(error) not in answer.body.decode()

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD"])
    def test_there_is_nothing_but_reading(self, method, audit_events):
        answer = Browser(application(ELSEWHERE)).get("audit-logs", method=method)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
        assert answer.headers["content-type"] == "application/problem+json"

    @pytest.mark.parametrize(
        ("query", "sentence"),
        [
            ("userid=1", "There is no parameter 'userid'; did you mean 'user_id'?"),
            ("q=1", "There is no parameter 'q'; the API's own description lists them."),
            ("since=soon", "The parameter 'since' is wrong: 'soon' is not a time"),
            ("since=2026-03-01T12:00:00.123456789Z", "six decimal places"),
            ("until=2026-03-01T12:00:00+02:00", "The parameter 'until' is wrong: '2026-03-01T12:00:00 02:00'"),
            ("until=2026-03-01T12:00:00+02:00", "write %2B02:00"),
            ("since=-1h&since=-2h", "'since' is given more than once"),
            ("limit=1&limit=2", "'limit' is given more than once"),
            ("since=now&until=-1h", "swap them"),
            ("user_id=", "user_id.0: String should have at least 1 character."),
            ("source_ip=nowhere", "is no address or network"),
            ("metadata=x", "metadata.0"),
            ("metadata=a*b=x", "is not a path"),
            ("outcome=maybe", "outcome.0"),
            ("cursor=abc", "not a cursor"),
            ("limit=1e3", "limit: "),
        ],
    )
    def test_a_malformed_question_is_told_in_a_sentence(self, query, sentence, audit_events):
        assert sentence in Browser(application(ELSEWHERE)).problem(f"audit-logs?{query}", 422)["detail"]
        assert audit_events.types() == ["api.call"]

    def test_parameters_of_the_applications_own_dependency_may_stand_there(self, audit_events):
        def access(token: Annotated[str, Query()], key: Annotated[str, Depends(APIKeyQuery(name="key"))]):
            return Access(user_id=token + key)

        Browser(application(ELSEWHERE, access=access)).problem("audit-logs?token=t&key=k", 503)

    def test_and_those_of_where_it_is_included(self, audit_events):
        def tracked(campaign: str):
            return campaign

        app = FastAPI()
        router = audit_router(access=lambda: Access(user_id="u-1"), settings=ELSEWHERE, prefix="/audit")
        app.include_router(router, prefix="/admin", dependencies=[Depends(tracked)])
        Browser(app).problem("audit/audit-logs?campaign=x", 503)
        Browser(app).problem("audit/audit-logs?campain=x", 422)


@pytest.mark.server
def test_hostile_events_stay_text(trail, browser, audit_events):
    stored = trail.add(event("e-1", user__name=HOSTILE, message=HOSTILE))
    for path in ("audit-logs", "audit-logs/e-1", "audit-export"):
        answer = browser.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "html" not in answer.headers["content-type"]
        for char in "\x1b\x9b\u202e\u2028\U000e0041":
            assert char not in answer.text
        content = answer.json()
        assert (content["events"][0] if path == "audit-logs" else content) == stored[0]


ODD = st.text(st.characters() | st.characters(categories=["Cc", "Cf", "Zl", "Zp"]))


@given(st.dictionaries(ODD, ODD | st.lists(ODD) | st.integers()))
def test_what_is_escaped_is_the_same_value(value):
    from audit_logging.printable import json_bytes

    try:
        encoded = json_bytes(value)
    except TypeError:  # a lone surrogate, or a number beyond 64 bits: neither is stored
        return
    assert json.loads(encoded) == value
    assert {unicodedata.category(char) for char in encoded.decode()}.isdisjoint({"Cc", "Cf", "Zl", "Zp"})


class TestDescription:
    def test_every_condition_is_a_parameter_of_the_same_name(self):
        paths = application(ELSEWHERE).openapi()["paths"]
        assert set(paths) == {f"/admin/audit-{each}" for each in ("logs", "logs/{event_id}", "stats", "export")}
        for path in ("logs", "stats", "export"):
            names = {each["name"] for each in paths[f"/admin/audit-{path}"]["get"]["parameters"]}
            assert set(Filter.conditions()) < names

    def test_examples_are_there_and_right(self):
        get = application(ELSEWHERE).openapi()["paths"]["/admin/audit-logs"]["get"]
        examples = {
            each["name"]: each["examples"]["example"]["value"] for each in get["parameters"] if "examples" in each
        }
        assert len(examples) >= 8
        query = {name: value for name, value in examples.items() if name != "metadata"}
        assert Filter.of(**query)
        assert get["responses"]["200"]["content"]["application/json"]["example"]["events"]
        assert "application/problem+json" in get["responses"]["422"]["content"]

    def test_an_export_shows_the_same_event_in_every_format(self):
        content = application(ELSEWHERE).openapi()["paths"]["/admin/audit-export"]["get"]["responses"]["200"]["content"]
        shown = {media_type: each["example"] for media_type, each in content.items()}
        assert shown["application/json"] == [EXAMPLE]
        assert json.loads(shown["application/x-ndjson"]) == EXAMPLE
        [row] = csv.DictReader(io.StringIO(shown["text/csv"], newline=""))
        assert (row["user_id"], json.loads(row["document"])) == ("u-42", EXAMPLE)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
CONDITIONS = {
    "single": st.sampled_from(["text", "min_severity", "since", "until"]),
    "term": st.sampled_from(["user", "user_id", "service", "request_id", "resource", "changed_field", "event_type"]),
}


@hypothesis_settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(CONDITIONS["term"], st.lists(TEXTS, min_size=1, max_size=3), max_size=3),
    st.dictionaries(st.sampled_from(["a", "plan.tier"]), st.lists(TEXTS, min_size=1, max_size=2), max_size=2),
    TEXTS | st.none(),
    st.sampled_from([None, "acme"]),
    st.sampled_from(["", "not_"]),
)
def test_a_query_means_what_the_keywords_mean(terms, metadata, text, tenant, negation):
    asked = {negation + name: values for name, values in terms.items()}
    asked |= {} if text is None else {negation + "text": text}
    expected = asked | ({negation + "metadata": metadata} if metadata else {})
    expected |= {} if tenant is None else {"organization_id": tenant}
    query = [
        (name, value) for name, values in asked.items() for value in ([values] if name.endswith("text") else values)
    ]
    query += [(negation + "metadata", f"{path}={value}") for path, values in metadata.items() for value in values]
    app = FastAPI()
    read = filter_of_query(lambda: Access(user_id="u", organization_id=tenant))

    @app.get("/")
    def digest(where=Depends(read)):
        return where.digest()

    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            return await client.get("/", params=query)

    assert asyncio.run(ask()).json() == Filter.of(**expected).digest()


def test_waiting_for_the_server_leaves_the_loop_alone(audit_events):
    with socket.create_server(("127.0.0.1", 0)) as hung:
        url = f"http://127.0.0.1:{hung.getsockname()[1]}"
        app = application(Settings.load(opensearch_url=url, opensearch_timeout_seconds=1))
        app.get("/health")(lambda: True)

        async def ask():
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
                waiting = asyncio.create_task(client.get("/admin/audit-logs", headers={"x-user": "root"}))
                while not waiting.done():
                    assert (await client.get("/health")).json() is True
                    answers.append(waiting.done())
                return (await waiting).status_code

        answers = []
        assert asyncio.run(ask()) == 503
    assert answers.count(False) > 10
