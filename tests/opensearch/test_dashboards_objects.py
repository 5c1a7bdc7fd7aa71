"""What is in the saved objects: whole, well-formed, and every search and panel finds rows on a real server."""

from __future__ import annotations

import ipaddress
import json
import re
from collections import Counter
from datetime import datetime, timedelta, timezone
from uuid import uuid4

import orjson
import pytest

from audit_logging.events.catalogue import Catalogue
from audit_logging.events.document import DocumentBuilder
from audit_logging.events.values import PlainValues
from audit_logging.opensearch.client import Client
from audit_logging.opensearch.dashboards import saved_objects
from audit_logging.settings import Settings
from tests.query.trail import Trail

OBJECTS = saved_objects()
BY_ID = {(item["type"], item["id"]): item for item in OBJECTS}
PLAIN_TYPES = {"area", "histogram", "line", "metric", "pie", "table", "tagcloud"}


def of_type(kind):
    return [pytest.param(item, id=item["id"]) for item in OBJECTS if item["type"] == kind]


def title(item):
    return item["attributes"]["title"].removeprefix("[audit-events] ")


def search_source(item):
    return json.loads(item["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])


def vis_state(item):
    return json.loads(item["attributes"]["visState"])


def pattern_fields():
    return {
        field["name"]: field for field in json.loads(BY_ID["index-pattern", "audit-events"]["attributes"]["fields"])
    }


def panels():
    return json.loads(BY_ID["dashboard", "audit-events--overview"]["attributes"]["panelsJSON"])


def holds(kind):
    """A string that holds JSON of this type."""
    return lambda value: isinstance(json.loads(value), kind)


def meta(value):
    return value.keys() == {"searchSourceJSON"} and holds(dict)(value["searchSourceJSON"])


# As Dashboards 2.x exports them (the catalogue of integrations has many): the attributes of each type, and their types.
SHAPES = {
    "index-pattern": (
        "7.6.0",
        {"fields": holds(list), "timeFieldName": str, "title": str, "fieldFormatMap": holds(dict)},
    ),
    "search": (
        "7.9.3",
        {
            "columns": list,
            "description": str,
            "hits": int,
            "kibanaSavedObjectMeta": meta,
            "sort": list,
            "title": str,
            "version": int,
        },
    ),
    "visualization": (
        "7.10.0",
        {
            "description": str,
            "kibanaSavedObjectMeta": meta,
            "title": str,
            "uiStateJSON": holds(dict),
            "version": int,
            "visState": holds(dict),
        },
    ),
    "dashboard": (
        "7.9.3",
        {
            "description": str,
            "hits": int,
            "kibanaSavedObjectMeta": meta,
            "optionsJSON": holds(dict),
            "panelsJSON": holds(list),
            "refreshInterval": dict,
            "timeFrom": str,
            "timeRestore": bool,
            "timeTo": str,
            "title": str,
            "version": int,
        },
    ),
}


class TestForm:
    @pytest.mark.parametrize("item", [pytest.param(item, id=item["id"]) for item in OBJECTS])
    def test_each_has_the_shape_that_dashboards_exports(self, item):
        version, attributes = SHAPES[item["type"]]
        assert item.keys() == {"attributes", "id", "migrationVersion", "references", "type"}
        assert item["migrationVersion"] == {item["type"]: version}
        given = dict(item["attributes"])
        if "savedSearchRefName" in given:
            assert isinstance(given.pop("savedSearchRefName"), str)
        assert given.keys() == attributes.keys()
        for name, value in given.items():
            expected = attributes[name]
            assert isinstance(value, expected) if isinstance(expected, type) else expected(value), name

    @pytest.mark.parametrize("number", range(len(OBJECTS)))
    def test_every_reference_leads_to_an_object_before_it_in_the_file(self, number):
        item = OBJECTS[number]
        before = {(other["type"], other["id"]) for other in OBJECTS[:number]}
        assert {(each["type"], each["id"]) for each in item["references"]} <= before
        named = re.findall(r'RefName\\?":\s?\\?"([^"\\]+)', json.dumps(item))
        assert sorted(named) == sorted(each["name"] for each in item["references"])

    def test_ids_are_unique_and_belong_to_the_stream(self):
        assert len(BY_ID) == len(OBJECTS)
        for item in OBJECTS:
            # An underscore would be taken for the end of a data source's id when imported into one of several.
            assert re.fullmatch(r"audit-events(--[a-z]+(-[a-z]+)*)?", item["id"])

    def test_another_stream_has_objects_of_its_own(self):
        others = saved_objects("audit_shop.eu")
        assert "audit-events" not in json.dumps(others)
        assert others[0]["attributes"]["title"] == others[0]["id"] == "audit_shop.eu"
        assert not {item["id"] for item in others} & {item["id"] for item in OBJECTS}

    @pytest.mark.parametrize("item", of_type("visualization"))
    def test_panels_are_of_plain_types(self, item):
        state = vis_state(item)
        assert state["type"] in PLAIN_TYPES
        assert state["title"] == item["attributes"]["title"]
        assert [each["id"] for each in state["aggs"]] == [str(number + 1) for number in range(len(state["aggs"]))]

    def test_the_grid_is_tiled_without_gap_or_overlap(self):
        cells = Counter()
        for panel in panels():
            grid = panel["gridData"]
            assert grid["i"] == panel["panelIndex"]
            across = range(grid["x"], grid["x"] + grid["w"])
            cells.update((x, y) for x in across for y in range(grid["y"], grid["y"] + grid["h"]))
        height = max(y for _, y in cells) + 1
        assert cells == Counter({(x, y): 1 for x in range(48) for y in range(height)})

    def test_every_panel_is_on_the_dashboard(self):
        shown = {each["id"] for each in BY_ID["dashboard", "audit-events--overview"]["references"]}
        assert {item["id"] for item in OBJECTS if item["type"] == "visualization"} <= shown


class TestFields:
    def test_formats_are_of_fields_that_exist(self):
        pattern = BY_ID["index-pattern", "audit-events"]["attributes"]
        formats = json.loads(pattern["fieldFormatMap"])
        assert formats.keys() <= pattern_fields().keys()
        # Never `url`: whoever writes an event would choose where an analyst's click leads.
        known = {"color", "duration", "number", "static_lookup", "string", "truncate"}
        assert {each["id"] for each in formats.values()} == known

    @pytest.mark.parametrize("item", of_type("search"))
    def test_columns_and_sort_are_fields(self, item):
        used = [*item["attributes"]["columns"], *(name for name, _ in item["attributes"]["sort"])]
        assert set(used) <= pattern_fields().keys()

    @pytest.mark.parametrize("item", of_type("visualization"))
    def test_what_is_grouped_or_measured_can_be(self, item):
        for each in vis_state(item)["aggs"]:
            if "field" in each["params"]:
                assert pattern_fields()[each["params"]["field"]]["aggregatable"]

    @pytest.mark.parametrize("item", [*of_type("search"), *of_type("visualization")])
    def test_queries_name_fields_that_exist(self, item):
        queries = [search_source(item)["query"]["query"]]
        if item["type"] == "visualization":
            filters = [each for agg in vis_state(item)["aggs"] for each in agg["params"].get("filters", [])]
            queries += [each["input"]["query"] for each in filters]
        for query in queries:
            for name in re.findall(r"([\w@.]+):", query):
                assert pattern_fields()[name]["searchable"]

    @pytest.mark.server
    def test_the_pattern_lists_what_dashboards_would_find_on_the_server(self, filled):
        """No `alias` among them: alerting does not bear those."""
        client, stream, _ = filled
        found = client.request("GET", f"/{stream}/_field_caps", params={"fields": "*"})["fields"]
        expected = {}
        for name, by_type in found.items():
            ((kind, can),) = by_type.items()
            if name.startswith(("_", "labels.", "audit.metadata.")) or kind == "object":
                continue  # 2.19 also lists the inside of a flat_object, under names that lead nowhere
            assert kind != "alias"
            expected[name] = kind, can["searchable"], can["aggregatable"]
        listed = {
            name: (field["esTypes"][0], field["searchable"], field["aggregatable"])
            for name, field in pattern_fields().items()
            if not name.startswith("_")
        }
        assert listed == expected


# A stream in which everything happened

OWN_FACTS = {
    "amount": "19.99",
    "currency": "EUR",
    "description": "for a test",
    "endpoint": "/api/orders",
    "key_id": "k-1",
    "method": "POST",
    "plan": "gold",
    "product_id": "p-1",
    "resource": "customers",
    "status_code": 200,
    "target_user_id": "u-9",
}


def everything():
    """Every event type, succeeding and failing, by some users from some addresses, over ten hours."""
    builder = DocumentBuilder(Settings.load(service="shop"), Catalogue(), PlainValues())
    described = []
    for event_type in Catalogue():
        facts = {name: OWN_FACTS[name] for name in event_type.required}
        if event_type.name == "api.call":
            facts["response_time_ms"] = 12.5
        described += [(event_type.name, {**facts, "outcome": outcome}) for outcome in ("success", "failure")]
    for status in (204, 302, 404, 429, 500, 503):
        call = {"endpoint": "/api/cart", "method": "GET", "status_code": status, "response_time_ms": status / 7}
        described.append(("api.call", call))
    described += [
        ("data.accessed", {"resource": "customers", "effective_user_id": "u-8"}),
        ("user.login", {"source_ip": "not an address"}),
    ]
    now = datetime.now(timezone.utc)
    for number, (name, facts) in enumerate(described):
        when = now - timedelta(minutes=600 * (number + 1) / len(described))
        address = ("203.0.113.7", "2001:db8::1", "198.51.100.4")[number % 3]
        context = {
            "timestamp": when,
            "user_id": f"u-{number % 4}",
            "source_ip": address,
            "reason": "tried",
            "user_agent": "tests/1",
            "changes": {"role": {"before": "member", "after": "owner"}},
        }
        if name.startswith("audit."):
            del context["user_id"]
        yield orjson.loads(builder.build(name, {**context, **facts}).canonical)
    yield {
        "@timestamp": now.isoformat(),
        "audit": {"quarantine": {"document": "{}", "reason": "mapper_parsing_exception"}},
        "event": {"action": "audit.quarantined", "id": "q", "kind": "pipeline_error"},
        "log": {"level": "critical"},
    }


@pytest.fixture(scope="module")
def filled(opensearch_server):
    """A client, and a stream that holds one of everything, with its documents."""
    settings = Settings.load(**opensearch_server.settings(), stream=f"audit-test-{uuid4().hex[:12]}")
    client = Client(settings)
    documents = Trail(settings, client).add(*everything())
    yield client, settings.stream, documents
    for path in ("_data_stream/", "_index_template/", "_component_template/"):
        client.request("DELETE", f"/{path}{settings.stream}*")
    client.close()


def values(document, path):
    """Return the values of a dotted path, as a list."""
    found = [document]
    for step in path.split("."):
        inner = [node[step] for node in found if isinstance(node, dict) and step in node]
        found = [value for node in inner for value in (node if isinstance(node, list) else [node])]
    return found


def action(*prefixes):
    return lambda document: document["event"]["action"].startswith(prefixes)


def failed_log_in(document):
    return "authentication" in values(document, "event.category") and document["event"].get("outcome") == "failure"


# What each search promises by its name, said once more in Python.
FINDS = {
    "All events": lambda document: True,
    "Log-ins": lambda document: "authentication" in values(document, "event.category"),
    "Failed log-ins": failed_log_in,
    "Privileged actions": lambda document: (
        action("admin.", "api_key.", "security.two_factor_")(document) or values(document, "user.effective.id")
    ),
    "Purchases": action("purchase.", "subscription."),
    "API calls": action("api.call"),
    "API errors": lambda document: (values(document, "http.response.status_code") or [0])[0] >= 400,
    "Critical events": lambda document: document["log"]["level"] == "critical",
    "Reads and exports": action("data.accessed", "security.data_export", "audit.searched", "audit.exported"),
    "Events to mend": lambda document: (
        values(document, "audit.invalid") or action("audit.quarantined", "audit.dead_lettered")(document)
    ),
    "One user's story": lambda document: values(document, "related.user"),
}


def query_of(item):
    """Return the query and documents' predicate of a search or panel; a panel takes over those of its search."""
    searches = [BY_ID["search", each["id"]] for each in item["references"] if each["type"] == "search"]
    sources = [search_source(each) for each in (item, *searches)]
    assert not [source["filter"] for source in sources if source["filter"]]
    texts = [source["query"]["query"] for source in sources]
    assert {source["query"]["language"] for source in sources} == {"lucene"}
    predicates = [FINDS[title(each)] for each in ([item] if item["type"] == "search" else searches)]
    query = lucene(*filter(None, texts))
    query["bool"]["filter"] = [{"range": {"@timestamp": {"gte": "now-7d", "lte": "now"}}}]
    return query, lambda document: all(predicate(document) for predicate in predicates)


def lucene(*texts):
    """As Dashboards asks for what stands in a query bar (its ``build_opensearch_query.ts``)."""
    must = [{"query_string": {"query": text, "analyze_wildcard": True, "time_zone": "UTC"}} for text in texts]
    return {"bool": {"must": must, "filter": [], "should": [], "must_not": []}}


def aggregations_of(state):
    """As Dashboards asks for a panel's groupings, one in the other, with the measures innermost (``agg_configs.ts``)."""
    measures = {
        each["id"]: {each["type"]: {"field": each["params"]["field"]}}
        for each in state["aggs"]
        if each["schema"] == "metric" and each["type"] != "count"
    }
    body = measures
    for each in reversed([each for each in state["aggs"] if each["schema"] != "metric"]):
        nested = {"aggs": body} if body else {}
        body = {each["id"]: {each["type"]: BUCKETS[each["type"]](each["params"]), **nested}}
    return body


def terms(params):
    assert params["orderBy"] == "1"  # the count, in every panel here
    missing = {"missing": "__missing__"} if params["missingBucket"] else {}
    return {"field": params["field"], "size": params["size"], "order": {"_count": params["order"]}, **missing}


BUCKETS = {
    "terms": terms,
    "date_histogram": lambda params: {
        "field": params["field"],
        "fixed_interval": "30m",
        "time_zone": "UTC",
        "min_doc_count": params["min_doc_count"],
    },
    "filters": lambda params: {
        "filters": {each["label"]: lucene(each["input"]["query"]) for each in params["filters"]}
    },
}


def rows(result, aggregations):
    """Yield (keys of the groups, their count, their measures) of an answer's innermost groups."""
    groups = [each for each in aggregations if each["schema"] != "metric"]
    measures = [each["id"] for each in aggregations if each["schema"] == "metric" and each["type"] != "count"]

    def walk(node, rest, keys):
        if not rest:
            yield keys, node.get("doc_count"), [node[name]["value"] for name in measures]
            return
        buckets = node[rest[0]["id"]]["buckets"]
        named = buckets.items() if isinstance(buckets, dict) else ((bucket["key"], bucket) for bucket in buckets)
        for key, bucket in named:
            yield from walk(bucket, rest[1:], (*keys, key))

    yield from walk(result, groups, ())


@pytest.mark.server
@pytest.mark.parametrize("item", of_type("search"))
def test_each_search_finds_what_its_name_promises_and_nothing_else(item, filled):
    client, stream, documents = filled
    query, predicate = query_of(item)
    sort = [{field: direction} for field, direction in item["attributes"]["sort"]]
    body = {"query": query, "sort": sort, "size": 500, "version": True}
    hits = client.request("POST", f"/{stream}/_search", body=body)["hits"]["hits"]
    wanted = {document["event"]["id"] for document in documents if predicate(document)}
    assert wanted
    assert {hit["_source"]["event"]["id"] for hit in hits} == wanted
    times = [hit["_source"]["@timestamp"] for hit in hits]
    assert times == sorted(times, reverse="oldest first" not in item["attributes"]["description"])
    for column in item["attributes"]["columns"]:
        assert any(values(hit["_source"], column) for hit in hits), f"the column {column} is always empty"


@pytest.mark.server
@pytest.mark.parametrize("item", of_type("visualization"))
def test_each_panel_shows_rows_and_counts_right(item, filled):
    client, stream, documents = filled
    query, predicate = query_of(item)
    aggregations = vis_state(item)["aggs"]
    body = {"query": query, "size": 0, "track_total_hits": True, "aggs": aggregations_of(vis_state(item))}
    answer = client.request("POST", f"/{stream}/_search", body=body)
    wanted = [document for document in documents if predicate(document)]
    assert answer["hits"]["total"]["value"] == len(wanted) > 0
    found = list(rows(answer.get("aggregations", {}), aggregations))
    assert found
    for _, _, measured in found:
        assert None not in measured
    shares = Counter()
    for keys, count, _ in found:
        shares[keys[-1:]] += len(wanted) if count is None else count
    assert 0 not in shares.values()
    grouped = [each["params"] for each in aggregations if each["type"] == "terms"]
    skipped = any(each["type"] == "date_histogram" for each in aggregations)
    if grouped:
        shown = Counter()
        for keys, count, _ in found:
            shown[keys[skipped:]] += count
        expected = count_groups(wanted, grouped)
        assert shown.items() <= expected.items()
        assert len(shown) == len(expected) or len(shown) >= min(params["size"] for params in grouped)


def count_groups(documents, grouped):
    """Return how many documents have each combination of values, which is what groups of groups show."""
    counts = Counter()
    for document in documents:
        combinations = [()]
        for params in grouped:
            found = values(document, params["field"]) or (["__missing__"] if params["missingBucket"] else [])
            combinations = [(*before, plain(value)) for before in combinations for value in found]
        counts.update(combinations)
    return counts


def plain(value):
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        return value
