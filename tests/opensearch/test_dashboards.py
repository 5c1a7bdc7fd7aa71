"""Saved objects into OpenSearch Dashboards: stored, read back, and every refusal told."""

from __future__ import annotations

import json
import socket

import pytest

from audit_logging.cli.root import run
from audit_logging.errors import (
    CredentialsError,
    NotFoundError,
    OpenSearchError,
    RefusedError,
    SettingsError,
    UnreachableError,
)
from audit_logging.opensearch.dashboards import saved_objects, set_up_dashboards
from audit_logging.settings import Settings

from .recorded_dashboards import RecordedDashboards


@pytest.fixture
def dashboards():
    with RecordedDashboards() as dashboards:
        yield dashboards


def settings_for(dashboards, **given):
    return Settings.load(dashboards_url=dashboards.url, **{"stream": "audit-shop", **given})


def outcomes(report):
    return {step.outcome for step in report.steps}


class TestSetUp:
    def test_everything_is_stored_as_it_should_be(self, dashboards):
        report = set_up_dashboards(settings_for(dashboards))
        assert outcomes(report) == {"created"}
        wanted = saved_objects("audit-shop")
        assert [step.name for step in report.steps] == [item["id"] for item in wanted]
        for item in wanted:
            held = dashboards.held[item["type"], item["id"]]
            assert (held["attributes"], held["references"]) == (item["attributes"], item["references"])
        address = f"{dashboards.url}/app/dashboards?security_tenant=global#/view/audit-shop--overview"
        assert report.notes == (f"The dashboard is at {address}",)

    def test_a_second_time_there_is_nothing_to_do(self, dashboards):
        set_up_dashboards(settings_for(dashboards))
        again = set_up_dashboards(settings_for(dashboards))
        assert outcomes(again) == {"unchanged"}
        assert not again.changed
        assert len(dashboards.imports) == 1

    def test_a_dry_run_tells_and_stores_nothing(self, dashboards):
        report = set_up_dashboards(settings_for(dashboards), dry_run=True)
        assert report.dry_run
        assert outcomes(report) == {"created"}
        assert dashboards.imports == []

    def test_what_somebody_changed_or_deleted_is_put_back(self, dashboards):
        set_up_dashboards(settings_for(dashboards))
        dashboards.held["search", "audit-shop--log-ins"]["attributes"]["columns"] = []
        dashboards.held["dashboard", "audit-shop--overview"]["references"] = []
        del dashboards.held["visualization", "audit-shop--events"]
        changed = {step.name: step.outcome for step in set_up_dashboards(settings_for(dashboards)).steps}
        assert {name: outcome for name, outcome in changed.items() if outcome != "unchanged"} == {
            "audit-shop--log-ins": "updated",
            "audit-shop--overview": "updated",
            "audit-shop--events": "created",
        }
        assert outcomes(set_up_dashboards(settings_for(dashboards))) == {"unchanged"}

    def test_streams_live_side_by_side_and_copies_are_left_alone(self, dashboards):
        mine = {"type": "dashboard", "id": "mine", "attributes": {"title": "[audit-shop] Overview"}, "references": []}
        dashboards.held["dashboard", "mine"] = mine
        for stream in ("audit", "audit-failed", "audit-events"):
            assert outcomes(set_up_dashboards(settings_for(dashboards, stream=stream))) == {"created"}
        assert len(dashboards.held) == 3 * len(saved_objects()) + 1
        assert dashboards.held["dashboard", "mine"] == mine

    def test_an_object_that_a_newer_version_brought_to_its_own_shape_counts_as_stored(self, dashboards):
        store = dashboards._import

        def migrating(headers, body, **given):
            answer = store(headers, body, **given)
            for held in dashboards.held.values():
                held["attributes"] = {**held["attributes"], "new": True}
            return answer

        dashboards._import = migrating
        assert set_up_dashboards(settings_for(dashboards)).changed
        assert set_up_dashboards(settings_for(dashboards)).changed

    def test_what_it_sends_is_what_the_api_asks_for(self):
        with RecordedDashboards(base_path="/_dashboards/w/team-7", credentials=("auditör", "s3cret")) as dashboards:
            given = {"opensearch_username": "auditör", "opensearch_password": "s3cret"}
            assert set_up_dashboards(settings_for(dashboards, **given)).changed
        assert {headers["osd-xsrf"] for headers in dashboards.headers} == {"true"}
        assert {headers["securitytenant"] for headers in dashboards.headers} == {"global"}

    def test_mere_use_is_no_change(self, dashboards):
        """Dashboards counts how often a field was used, and writes nulls for parameters that are not set."""
        set_up_dashboards(settings_for(dashboards))
        pattern = dashboards.held["index-pattern", "audit-shop"]["attributes"]
        fields = json.loads(pattern["fields"])
        pattern["fields"] = json.dumps([{**field, "count": 7, "script": None} for field in fields], indent=1)
        pattern["typeMeta"] = None
        assert outcomes(set_up_dashboards(settings_for(dashboards))) == {"unchanged"}
        pattern["fields"] = json.dumps(fields[1:])
        assert outcomes(set_up_dashboards(settings_for(dashboards))) == {"unchanged", "updated"}

    def test_searches_name_their_index_pattern_as_dataset(self):
        for item in saved_objects("audit-shop"):
            if item["type"] == "search":
                query = json.loads(item["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])["query"]
                assert query["dataset"] == {
                    "id": "audit-shop",
                    "title": "audit-shop",
                    "type": "INDEX_PATTERN",
                    "timeFieldName": "@timestamp",
                }


class TestTenants:
    @pytest.mark.parametrize(("tenant", "linked"), [("private", "private"), ("team a", "team%20a")])
    def test_header_and_link_name_the_tenant(self, dashboards, tenant, linked):
        report = set_up_dashboards(settings_for(dashboards, dashboards_tenant=tenant))
        assert {headers["securitytenant"] for headers in dashboards.headers} == {tenant}
        assert f"?security_tenant={linked}#/view/" in report.notes[0]

    def test_tenant_cannot_add_a_header(self, dashboards):
        with pytest.raises(SettingsError, match="dashboards_tenant"):
            settings_for(dashboards, dashboards_tenant="global\r\nx: y")


class TestWorkspaces:
    @pytest.fixture
    def dashboards(self):
        with RecordedDashboards(workspaces=("team-7", "team-8")) as dashboards:
            yield dashboards

    def within(self, dashboards, workspace):
        return settings_for(dashboards).model_copy(update={"dashboards_url": f"{dashboards.url}/w/{workspace}"})

    def test_objects_are_stored_in_the_workspace_of_the_url(self, dashboards):
        report = set_up_dashboards(self.within(dashboards, "team-7"))
        assert all(item["workspaces"] == ["team-7"] for item in dashboards.held.values())
        assert "/w/team-7/app/dashboards" in report.notes[0]
        assert len(report.notes) == 1
        assert outcomes(set_up_dashboards(self.within(dashboards, "team-7"))) == {"unchanged"}

    @pytest.mark.parametrize("before", [None, "team-8"], ids=["no-workspace", "another-workspace"])
    @pytest.mark.parametrize("dry_run", [False, True])
    def test_objects_outside_the_workspace_stop_the_setup(self, dashboards, before, dry_run):
        """Unchanged or not: they could not be seen in the workspace, and an import would make copies."""
        set_up_dashboards(self.within(dashboards, before) if before else settings_for(dashboards))
        held = dict(dashboards.held)
        with pytest.raises(OpenSearchError, match=r"outside the workspace 'team-7'.*nothing was changed"):
            set_up_dashboards(self.within(dashboards, "team-7"), dry_run=dry_run)
        assert dashboards.held == held
        assert len(dashboards.imports) == 1

    def test_copies_under_other_ids_are_a_failure(self, dashboards):
        """Where the existing object was not visible to the question before the import."""
        set_up_dashboards(settings_for(dashboards))
        get = dashboards._get
        dashboards._get = lambda asked: (
            {**asked, "error": {"statusCode": 404}} if len(dashboards.imports) == 1 else get(asked)
        )
        with pytest.raises(OpenSearchError, match=r"stored \d+ objects under other ids"):
            set_up_dashboards(self.within(dashboards, "team-7"))

    def test_objects_without_a_workspace_are_warned_of(self, dashboards):
        notes = set_up_dashboards(settings_for(dashboards)).notes
        assert "objects outside a workspace cannot be opened" in notes[1]


class TestRefusals:
    @pytest.mark.parametrize("before", [False, True], ids=["first", "second"])
    def test_successes_of_which_nothing_is_stored_are_found_out(self, dashboards, before):
        """Whether there was nothing, or there is something older."""
        if before:
            set_up_dashboards(settings_for(dashboards))
            dashboards.held["search", "audit-shop--log-ins"]["attributes"]["columns"] = []
        dashboards.stores = False
        with pytest.raises(OpenSearchError, match=r"said it had stored everything, but \d+ of \d+ objects are not"):
            set_up_dashboards(settings_for(dashboards))

    @pytest.mark.parametrize(
        ("error", "told"),
        [
            (
                {"type": "missing_references", "references": [{"type": "index-pattern", "id": "p"}]},
                r"search 's': missing_references \(index-pattern 'p'\)",
            ),
            ({"type": "conflict"}, "search 's': conflict"),
            ({"type": "unsupported_type"}, "search 's': unsupported_type"),
            ({"type": "unknown", "message": "disk full", "statusCode": 500}, r"search 's': unknown \(disk full\)"),
        ],
        ids=lambda value: value["type"] if isinstance(value, dict) else "",
    )
    def test_each_kind_of_error_of_an_import_is_told(self, dashboards, error, told):
        dashboards.refused = {("search", "s"): error}
        with pytest.raises(OpenSearchError, match=told):
            set_up_dashboards(settings_for(dashboards))
        assert dashboards.held == {}
        with pytest.raises(OpenSearchError) as refusal:
            set_up_dashboards(settings_for(dashboards))
        assert ("2.19 or newer" in str(refusal.value)) is (error["type"] == "unsupported_type")

    def test_of_many_errors_the_first_are_told(self, dashboards):
        dashboards.refused = {("search", f"s{number}"): {"type": "conflict"} for number in range(5)}
        with pytest.raises(OpenSearchError, match="'s2': conflict; and 2 more"):
            set_up_dashboards(settings_for(dashboards))

    def test_an_object_that_may_not_be_read_is_told(self, dashboards):
        broken = {"type": "search", "id": "audit-shop--log-ins", "error": {"statusCode": 400, "message": "not allowed"}}
        dashboards.held["search", "audit-shop--log-ins"] = broken
        with pytest.raises(OpenSearchError, match="does not give its search 'audit-shop--log-ins': not allowed"):
            set_up_dashboards(settings_for(dashboards))

    @pytest.mark.parametrize(
        ("answer", "error", "told"),
        [
            ((401, {}, "Unauthorized"), CredentialsError, "does not accept the credentials"),
            ((403, {}, '{"message": "no permissions"}'), CredentialsError, r"\(403\): no permissions"),
            ((404, {}, '{"message": "Not Found"}'), NotFoundError, "no saved-objects API .* base path"),
            ((302, {"Location": "http://sso.example/"}, ""), RefusedError, "sends elsewhere .*http://sso.example/"),
            ((413, {}, '{"message": "Payload too large"}'), RefusedError, r"refused \(413\): Payload too large"),
            ((503, {}, "OpenSearch Dashboards server is not ready yet"), RefusedError, r"\(503\): .* not ready yet"),
            ((200, {}, "<html>hello</html>"), UnreachableError, "is not OpenSearch Dashboards"),
            ((200, {}, "[]"), UnreachableError, "is not OpenSearch Dashboards"),
            ((200, {}, "{}"), UnreachableError, "answered without saved_objects"),
            ((200, {}, '{"saved_objects": {}}'), UnreachableError, "answered without saved_objects"),
            ((200, {}, '{"saved_objects": ["x"]}'), UnreachableError, "answered without saved_objects"),
            ((422, {}, '{"message": "more recent version"}'), RefusedError, r"more recent version.*2\.19 or newer"),
        ],
        ids=["401", "403", "404", "redirect", "413", "503", "html", "list", "empty", "no-list", "no-object", "422"],
    )
    def test_each_answer_that_is_none_is_told(self, dashboards, answer, error, told):
        dashboards.answer = answer
        with pytest.raises(error, match=told) as refusal:
            set_up_dashboards(settings_for(dashboards, opensearch_username="u", opensearch_password="s3cret"))
        assert "s3cret" not in str(refusal.value)

    def test_credentials_do_not_follow_a_redirect(self, dashboards):
        with RecordedDashboards() as elsewhere:
            dashboards.answer = 307, {"Location": f"{elsewhere.url}/api/saved_objects/_bulk_get"}, ""
            with pytest.raises(RefusedError):
                set_up_dashboards(settings_for(dashboards, opensearch_username="u", opensearch_password="p"))
        assert elsewhere.headers == []

    def test_nobody_answering_is_told(self):
        with pytest.raises(UnreachableError, match=r"No OpenSearch Dashboards answers at http://127\.0\.0\.1:1 "):
            set_up_dashboards(Settings.load(dashboards_url="http://127.0.0.1:1"))

    def test_no_answer_in_time_is_told(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(UnreachableError, match="did not answer in time"):
                set_up_dashboards(Settings.load(dashboards_url=url, opensearch_timeout_seconds=0.2))

    def test_tls_that_fails_is_told(self, dashboards):
        url = dashboards.url.replace("http:", "https:")
        with pytest.raises(UnreachableError, match=r"TLS with OpenSearch Dashboards .* failed"):
            set_up_dashboards(Settings.load(dashboards_url=url))

    def test_no_url_is_told(self):
        with pytest.raises(SettingsError, match="set dashboards_url"):
            set_up_dashboards(Settings.load())

    @pytest.mark.parametrize("url", ["localhost:5601", "http://user:pass@host", "http://host/app#/home"])
    def test_a_url_that_is_none_is_a_wrong_setting(self, url):
        with pytest.raises(SettingsError, match="dashboards_url"):
            Settings.load(dashboards_url=url)


class TestCommand:
    @pytest.fixture
    def setup(self, capsys):
        def setup(*arguments):
            code = 0
            try:
                run(["setup", *arguments])
            except SystemExit as stop:
                code = stop.code
            printed = capsys.readouterr()
            return code or 0, printed.out, printed.err

        return setup

    @pytest.mark.server
    def test_stream_and_dashboards_are_set_up_in_one_go(self, setup, dashboards, settings, monkeypatch):
        """A dry run first, then for real, then once more with nothing to do; for any stream."""
        monkeypatch.setenv("AUDIT_DASHBOARDS_URL", dashboards.url)
        arguments = ["--url", settings.opensearch_url[0], "--stream", settings.stream, "--dashboards"]
        code, out, _ = setup(*arguments, "--dry-run")
        assert code == 0
        assert f"{settings.stream}--overview" in " ".join(out.split())
        assert dashboards.held == {}
        assert "Nothing was changed." in out
        assert out.count("visualization ") == out.count("saved search ") == 1  # one line for all of them
        code, out, _ = setup(*arguments)
        assert code == 0
        assert f"/app/dashboards?security_tenant=global#/view/{settings.stream}--overview" in out.replace("\n", "")
        assert ("index-pattern", settings.stream) in dashboards.held
        code, out, _ = setup(*arguments, "--json")
        told = json.loads(out)
        assert (code, told["changed"]) == (0, False)
        assert {"data stream", "dashboard", "visualization"} <= {step["what"] for step in told["steps"]}

    @pytest.mark.server
    def test_dashboards_that_cannot_be_reached_leave_everything_as_it_was(self, setup, settings, client):
        arguments = ["--url", settings.opensearch_url[0], "--stream", settings.stream]
        code, out, err = setup(*arguments, "--dashboards", "http://127.0.0.1:1")
        assert (code, out) == (3, "")
        assert "No OpenSearch Dashboards answers at http://127.0.0.1:1" in err
        with pytest.raises(NotFoundError):
            client.request("GET", f"/_data_stream/{settings.stream}")

    @pytest.mark.parametrize(("url", "named"), [("", "dashboards_url"), ("nonsense", "--dashboards is wrong")])
    def test_no_url_or_a_wrong_one_is_wrong_use(self, setup, url, named):
        code, out, err = setup("--url", "http://127.0.0.1:1", "--dashboards", *([url] if url else []))
        assert (code, out) == (2, "")
        assert named in err
