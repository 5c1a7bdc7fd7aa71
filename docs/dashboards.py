"""From ``index_templates/dashboards/audit.yaml`` to the saved objects that OpenSearch Dashboards imports.

The shapes are those that Dashboards itself exports; its versions 2.19 and 3.x take them without a migration.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from audit_logging.settings import DEFAULT_STREAM

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]

TEMPLATES = Path(__file__).parent.parent / "index_templates"
SHAPES = {"index-pattern": "7.6.0", "search": "7.9.3", "visualization": "7.10.0", "dashboard": "7.9.3"}
"""Version of the shape of each type of object, counted on from Kibana's. Of a later one Dashboards would refuse it."""
PANEL_VERSION = "2.19.0"
GRID_WIDTH = 48
TERMS = 10
"""How many values a grouping shows unless it says otherwise."""

FIELD_TYPES = {
    "keyword": "string",
    "text": "string",
    "integer": "number",
    "long": "number",
    "date_nanos": "date",
    "ip": "ip",
    "flat_object": "unknown",
}
"""OpenSearch's type of a field → Dashboards' (its sources, ``osd_field_types_factory.ts``)."""
NOT_AGGREGATABLE = ("text", "flat_object")
META_FIELDS = ("_id", "_index", "_score", "_source")

TIME_AXIS = {
    "customLabel": "",
    "drop_partials": False,
    "extended_bounds": {},
    "field": "@timestamp",
    "interval": "auto",
    "min_doc_count": 1,
    "scaleMetricValues": False,
    "timeRange": {"from": "now-7d", "to": "now"},  # while a panel is edited; a dashboard brings its own
    "useNormalizedOpenSearchInterval": True,
}

DATASET = {"id": DEFAULT_STREAM, "timeFieldName": "@timestamp", "title": DEFAULT_STREAM, "type": "INDEX_PATTERN"}
"""What a saved search is over. With query enhancements on, Dashboards asks its query for this, not its references."""

SEARCH_INDEX = "kibanaSavedObjectMeta.searchSourceJSON.index"


def ndjson() -> str:
    """Return ``audit.ndjson``: one saved object a line, each after those it refers to."""
    source = yaml.safe_load((TEMPLATES / "dashboards" / "audit.yaml").read_text("utf-8"))
    return "".join(_json(item) + "\n" for item in _objects(source))


def _objects(source: Json) -> Iterator[Json]:
    yield _object("index-pattern", DEFAULT_STREAM, _pattern(source["pattern"]["formats"]), [])
    for name, search in source["searches"].items():
        references = [_reference(SEARCH_INDEX, "index-pattern", DEFAULT_STREAM)]
        yield _object("search", _id(name), _search(search), references)
    for name, panel in source["panels"].items():
        search = panel.get("search")
        of_search = _reference("search_0", "search", _id(search or ""))
        of_pattern = _reference(SEARCH_INDEX, "index-pattern", DEFAULT_STREAM)
        yield _object("visualization", _id(name), _visualization(panel), [of_search if search else of_pattern])
    yield _dashboard(source)


def _object(kind: str, name: str, attributes: Json, references: list[Json]) -> Json:
    return {
        "attributes": attributes,
        "id": name,
        "migrationVersion": {kind: SHAPES[kind]},
        "references": references,
        "type": kind,
    }


def _id(name: str) -> str:
    # Two hyphens: streams "audit" and "audit-failed" would otherwise share "audit-failed-log-ins".
    return f"{DEFAULT_STREAM}--{name}"


def _title(title: str) -> str:
    return f"[{DEFAULT_STREAM}] {title}"


def _reference(name: str, kind: str, identity: str) -> Json:
    return {"id": identity, "name": name, "type": kind}


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


# The pattern


def _pattern(formats: Json) -> Json:
    mappings = json.loads((TEMPLATES / "component-mappings.json").read_text("utf-8"))["template"]["mappings"]
    fields = [*_fields(mappings["properties"]), *map(_meta_field, META_FIELDS)]
    return {
        "fieldFormatMap": _json(formats),
        "fields": _json(sorted(fields, key=lambda field: str(field["name"]))),
        "timeFieldName": "@timestamp",
        "title": DEFAULT_STREAM,
    }


def _fields(properties: Json, path: str = "") -> Iterator[Json]:
    """Yield every field of the mapping as Dashboards would list it after asking the server."""
    for name, mapping in properties.items():
        full = path + name
        if "properties" in mapping:
            yield from _fields(mapping["properties"], f"{full}.")
        elif mapping["type"] != "object":
            yield _field(full, mapping)
        for part, multi in mapping.get("fields", {}).items():
            yield _field(f"{full}.{part}", multi) | {"subType": {"multi": {"parent": full}}}


def _field(name: str, mapping: Json) -> Json:
    kind = mapping["type"]
    aggregatable = kind not in NOT_AGGREGATABLE and mapping.get("doc_values", True)
    return {
        "aggregatable": aggregatable,
        "count": 0,
        "esTypes": [kind],
        "name": name,
        "readFromDocValues": aggregatable,
        "scripted": False,
        "searchable": mapping.get("index", True),
        "type": FIELD_TYPES[kind],
    }


def _meta_field(name: str) -> Json:
    found = name in {"_id", "_index"}
    return {
        "aggregatable": found,
        "count": 0,
        **({} if name == "_score" else {"esTypes": [name]}),
        "name": name,
        "readFromDocValues": False,
        "scripted": False,
        "searchable": found,
        "type": {"_score": "number", "_source": "_source"}.get(name, "string"),
    }


# Searches


def _search(search: Json) -> Json:
    source = _search_source(search["query"])
    source["query"]["dataset"] = DATASET
    source |= {
        "highlightAll": True,
        "indexRefName": SEARCH_INDEX,
        "version": True,
    }
    return {
        "columns": search["columns"],
        "description": search["description"],
        "hits": 0,
        "kibanaSavedObjectMeta": {"searchSourceJSON": _json(source)},
        "sort": [["@timestamp", search.get("order", "desc")]],
        "title": _title(search["title"]),
        "version": 1,
    }


def _search_source(query: str = "") -> Json:
    return {"filter": [], "query": {"language": "lucene", "query": query}}


# Panels


def _visualization(panel: Json) -> Json:
    """Return a panel's attributes. With ``search`` it takes over that search's index and query."""
    title = _title(panel["title"])
    aggregations = list(_aggregations(panel))
    state = {"aggs": aggregations, "params": _params(panel, aggregations), "title": title, "type": panel["type"]}
    source = _search_source() if "search" in panel else _search_source() | {"indexRefName": SEARCH_INDEX}
    colors = panel.get("colors")
    return {
        "description": panel.get("description", ""),
        "kibanaSavedObjectMeta": {"searchSourceJSON": _json(source)},
        **({"savedSearchRefName": "search_0"} if "search" in panel else {}),
        "title": title,
        "uiStateJSON": _json({"vis": {"colors": colors}} if colors else {}),
        "version": 1,
        "visState": _json(state),
    }


def _aggregations(panel: Json) -> Iterator[Json]:
    """Yield the measures, then the time axis, then the groupings, numbered from 1."""
    described = [
        *(("metric", measure["type"], _measure(measure)) for measure in panel.get("measure", [{"type": "count"}])),
        *([("segment", "date_histogram", TIME_AXIS)] if panel.get("over_time") else []),
        *((_bucket_schema(panel), "terms", _terms(group)) for group in panel.get("by", [])),
        *([("group", "filters", _filters(panel["filters"]))] if "filters" in panel else []),
    ]
    for number, (schema, kind, params) in enumerate(described, 1):
        yield {"enabled": True, "id": str(number), "params": params, "schema": schema, "type": kind}


def _bucket_schema(panel: Json) -> str:
    if panel.get("over_time"):
        return "group"
    return "bucket" if panel["type"] == "table" else "segment"


def _measure(measure: Json) -> Json:
    label = {"customLabel": measure["label"]} if "label" in measure else {}
    return label | ({"field": measure["field"]} if "field" in measure else {})


def _terms(group: Json) -> Json:
    return {
        "customLabel": group["label"],
        "field": group["field"],
        "missingBucket": "missing" in group,
        "missingBucketLabel": group.get("missing", "Missing"),
        "order": "desc",
        "orderBy": "1",
        "otherBucket": False,
        "otherBucketLabel": "Other",
        "size": group.get("size", TERMS),
    }


def _filters(filters: dict[str, str]) -> Json:
    inputs = [
        {"input": {"language": "lucene", "query": query}, "label": str(label)} for label, query in filters.items()
    ]
    return {"filters": inputs}


def _params(panel: Json, aggregations: list[Json]) -> Json:
    match panel["type"]:
        case "metric":
            return _metric_params()
        case "table":
            return {
                "percentageCol": "",
                "perPage": TERMS,
                "showMetricsAtAllLevels": False,
                "showPartialRows": False,
                "showTotal": False,
                "totalFunc": "sum",
            }
        case "pie":
            labels = {"last_level": True, "show": False, "truncate": 100, "values": True}
            return {**_legend(), "isDonut": True, "labels": labels, "type": "pie"}
        case "tagcloud":
            return {
                "maxFontSize": 40,
                "minFontSize": 12,
                "orientation": "single",
                "scale": "log",
                "showLabel": False,
            }
        case "area" | "histogram" | "line" as kind:
            measures = [item for item in aggregations if item["schema"] == "metric"]
            return _chart_params(kind, measures, percentage=panel.get("percentage", False))
        case kind:
            raise ValueError(f"{panel['title']}: there is no panel of type {kind!r} here")


def _legend() -> Json:
    return {"addLegend": True, "addTooltip": True, "legendPosition": "right"}


def _metric_params() -> Json:
    return {
        "addLegend": False,
        "addTooltip": True,
        "metric": {
            "colorSchema": "Green to Red",
            "colorsRange": [{"from": 0, "to": 10000}],
            "invertColors": False,
            "labels": {"show": True},
            "metricColorMode": "None",
            "percentageMode": False,
            "style": {"bgColor": False, "bgFill": "#000", "fontSize": 36, "labelColor": False, "subText": ""},
            "useRanges": False,
        },
        "type": "metric",
    }


def _chart_params(kind: str, measures: list[Json], *, percentage: bool) -> Json:
    category_axis = {
        "id": "CategoryAxis-1",
        "labels": {"filter": True, "show": True, "truncate": 100},
        "position": "bottom",
        "scale": {"type": "linear"},
        "show": True,
        "style": {},
        "title": {},
        "type": "category",
    }
    value_axis = {
        "id": "ValueAxis-1",
        "labels": {"filter": False, "rotate": 0, "show": True, "truncate": 100},
        "name": "LeftAxis-1",
        "position": "left",
        "scale": {"mode": "percentage" if percentage else "normal", "type": "linear"},
        "show": True,
        "style": {},
        "title": {"text": "Share" if percentage else "Events"},
        "type": "value",
    }
    series = [
        {
            "data": {"id": measure["id"], "label": "Events"},
            "drawLinesBetweenPoints": True,
            "interpolate": "linear",
            "lineWidth": 2,
            "mode": "normal" if kind == "line" else "stacked",
            "show": True,
            "showCircles": True,
            "type": kind,
            "valueAxis": "ValueAxis-1",
        }
        for measure in measures
    ]
    return {
        **_legend(),
        "addTimeMarker": False,
        "categoryAxes": [category_axis],
        "grid": {"categoryLines": False},
        "labels": {},
        "seriesParams": series,
        "thresholdLine": {"color": "#E7664C", "show": False, "style": "full", "value": 10, "width": 1},
        "times": [],
        "type": kind,
        "valueAxes": [value_axis],
    }


# The dashboard


def _dashboard(source: Json) -> Json:
    described = source["dashboard"]
    placed = list(_placed(source))
    panels = [panel for panel, _ in placed]
    attributes = {
        "description": described["description"],
        "hits": 0,
        "kibanaSavedObjectMeta": {"searchSourceJSON": _json(_search_source())},
        "optionsJSON": _json({"hidePanelTitles": False, "useMargins": True}),
        "panelsJSON": _json(panels),
        "refreshInterval": {"pause": True, "value": 0},
        "timeFrom": described["from"],
        "timeRestore": True,
        "timeTo": "now",
        "title": _title(described["title"]),
        "version": 1,
    }
    return _object("dashboard", _id(described["id"]), attributes, [reference for _, reference in placed])


def _placed(source: Json) -> Iterator[tuple[Json, Json]]:
    """Yield each panel on its place in the grid, and the reference to what it shows."""
    top, number = 0, 0
    for height, row in source["dashboard"]["rows"]:
        left = 0
        for name, width in row.items():
            shown = source["panels"].get(name) or source["searches"][name]
            reference = f"panel_{number}"
            panel = {
                "embeddableConfig": {"hidePanelTitles": False},
                "gridData": {"h": height, "i": name, "w": width, "x": left, "y": top},
                "panelIndex": name,
                "panelRefName": reference,
                "title": shown["title"],  # without the stream's name, which the dashboard's title tells
                "version": PANEL_VERSION,
            }
            kind = "visualization" if name in source["panels"] else "search"
            yield panel, _reference(reference, kind, _id(name))
            left, number = left + width, number + 1
        if left != GRID_WIDTH:
            raise ValueError(f"A row of the dashboard is {left} wide instead of {GRID_WIDTH}: {', '.join(row)}")
        top += height
