"""The saved-objects API of OpenSearch Dashboards, which is in no package registry, answered as its sources answer.

What is known of a refusal comes from the server's own route tests (``saved_objects/routes/integration_tests``).
"""

from __future__ import annotations

import base64
import json
import threading
from email import message_from_bytes
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePath
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4


class RecordedDashboards(ThreadingHTTPServer):
    """Use as a context manager. ``held`` is what it stores, ``imports`` the imports it was sent.

    ``stores`` False makes it claim successes and store nothing; ``answer`` replaces every answer.
    """

    daemon_threads = True

    def __init__(self, *, base_path="", credentials=None, workspaces=()):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.base_path, self.credentials, self.workspaces = base_path, credentials, workspaces
        self.held, self.imports, self.headers, self.stores, self.answer = {}, [], [], True, None
        self.refused = {}  # (type, id) → the error that an import reports for it
        self.url = f"http://127.0.0.1:{self.server_port}{base_path}"

    def __enter__(self):
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()
        self._thread.join()

    def respond(self, target, headers, body):
        """Return status, headers and body of the answer."""
        self.headers.append(headers)
        if self.answer is not None:
            return self.answer
        parts = urlsplit(target)
        if not parts.path.startswith(self.base_path + "/"):
            return _problem(404, "Not Found")
        path, workspace = parts.path.removeprefix(self.base_path), None
        if self.workspaces and path.startswith("/w/"):
            workspace, _, rest = path.removeprefix("/w/").partition("/")
            path = f"/{rest}"
        expected = self.credentials and "Basic " + base64.b64encode(":".join(self.credentials).encode()).decode()
        if expected and headers["Authorization"] != expected:
            return _problem(401, "Unauthorized")
        if "osd-xsrf" not in headers:
            return _problem(400, "Request must contain a osd-xsrf header.")
        match path:
            case "/api/workspaces/_list" if self.workspaces:
                listed = [{"id": each, "name": each} for each in self.workspaces]
                return 200, {}, json.dumps({"success": True, "result": {"total": len(listed), "workspaces": listed}})
            case "/api/saved_objects/_bulk_get":
                return 200, {}, json.dumps({"saved_objects": [self._get(item) for item in json.loads(body)]})
            case "/api/saved_objects/_import":
                overwrite = parse_qs(parts.query).get("overwrite") == ["true"]
                return self._import(headers, body, overwrite=overwrite, workspace=workspace)
        return _problem(404, "Not Found")

    def _get(self, asked):
        missing = {"statusCode": 404, "error": "Not Found", "message": "Saved object not found"}
        return self.held.get((asked["type"], asked["id"])) or {**asked, "error": missing}

    def _import(self, headers, body, *, overwrite, workspace=None):
        head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
        (part,) = message_from_bytes(head + body, policy=HTTP).iter_parts()
        assert part.get_param("name", header="content-disposition") == "file"
        if PurePath(part.get_filename()).suffix != ".ndjson":
            return _problem(400, "Invalid file extension")
        objects = [json.loads(line) for line in part.get_payload(decode=True).splitlines() if line]
        self.imports.append(objects)
        errors = self._errors(objects, overwrite=overwrite)
        good = [item for item in objects if all((item["type"], item["id"]) != (e["type"], e["id"]) for e in errors)]
        renamed = {}
        if self.stores and not errors:
            for item in objects:
                held = self.held.get((item["type"], item["id"]))
                if held and workspace and workspace not in held.get("workspaces", ()):
                    # What exists outside the workspace is not overwritten: a copy gets an id of its own.
                    renamed[item["id"]] = str(uuid4())
                belongs = {"workspaces": [workspace]} if workspace else {}
                name = renamed.get(item["id"], item["id"])
                self.held[item["type"], name] = {**item, "id": name, "version": f"W{len(self.imports)}", **belongs}
        result = {
            "success": not errors,
            "successCount": len(good),
            "successResults": [
                {"type": item["type"], "id": item["id"], "meta": {}}
                | ({"destinationId": renamed[item["id"]]} if item["id"] in renamed else {})
                for item in good
            ],
            **({"errors": errors} if errors else {}),
        }
        return 200, {}, json.dumps(result)

    def _errors(self, objects, *, overwrite):
        """One failed object, and none is stored, although the answer lists the others as successes."""
        known = self.held.keys() | {(item["type"], item["id"]) for item in objects}
        for item in objects:
            about = {"type": item["type"], "id": item["id"], "meta": {}}
            wanted = [{"type": each["type"], "id": each["id"]} for each in item["references"]]
            missing = [each for each in wanted if (each["type"], each["id"]) not in known]
            if missing:
                return [{**about, "error": {"type": "missing_references", "references": missing}}]
            if not overwrite and (item["type"], item["id"]) in self.held:
                return [{**about, "error": {"type": "conflict"}}]
        return [{"type": kind, "id": name, "meta": {}, "error": error} for (kind, name), error in self.refused.items()]


def _problem(status, message):
    return status, {}, json.dumps({"statusCode": status, "error": message, "message": message})


class _Handler(BaseHTTPRequestHandler):
    server: RecordedDashboards

    def do_POST(self):
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        status, headers, body = self.server.respond(self.path, self.headers, sent)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        """Say nothing."""
