"""The client's own promises: credentials read afresh, dead hosts passed over, nothing of events in any log."""

from __future__ import annotations

import datetime as dt
import gzip
import itertools
import logging
import os
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from audit_logging.errors import (
    AnswerTooLargeError,
    CredentialsError,
    NotFoundError,
    RefusedError,
    SettingsError,
    UnreachableError,
)
from audit_logging.local.certificates import write_certificates
from audit_logging.local.instance import free_port
from audit_logging.opensearch.client import Client, retry_after
from audit_logging.opensearch.credentials import Credentials
from audit_logging.settings import Settings


@contextmanager
def serving(answer, tls=None):
    """Serve on loopback; *answer* maps the handler to status, headers and body, or breaks off by returning None."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_GET(self):
            self.rfile.read(int(self.headers.get("content-length") or 0))
            answered = answer(self)
            if answered is None:
                self.close_connection = True
                return
            status, headers, body = answered
            self.send_response(status)
            for name, value in {"content-type": "application/json", "content-length": len(body), **headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_POST = do_HEAD = do_GET

        def log_message(self, *_):
            """Stay quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def get_request(self):
            connection, address = super().get_request()
            return (tls[0].wrap_socket(connection, server_side=True) if tls else connection), address

        def handle_error(self, *_):
            """A client that is refused is meant to be."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ok(_):
    return 200, {}, b'{"ok":true}'


def only(expected):
    """Let one ``Authorization`` through."""
    return lambda handler: ok(handler) if handler.headers.get("authorization") in expected else (401, {}, b"{}")


class TestCredentials:
    def test_a_token_file_is_read_afresh_when_refused(self, tmp_path):
        """A rotated secret is picked up without a restart, and without a failed request."""
        file = tmp_path / "token"
        file.write_text("old\n")
        accepted = ["Bearer old"]
        with serving(only(accepted)) as url:
            client = Client(Settings.load(opensearch_url=url, opensearch_token_file=file))
            assert client.request("GET", "/") == {"ok": True}
            accepted[:] = ["Bearer new"]
            with pytest.raises(CredentialsError):
                client.request("GET", "/")
            file.write_text("new\n")
            assert client.request("GET", "/") == {"ok": True}
            file.unlink()
            accepted[:] = ["Bearer third"]
            with pytest.raises(CredentialsError):
                client.request("GET", "/")

    def test_a_password_file_goes_with_the_user(self, tmp_path):
        """As secrets are mounted into containers."""
        file = tmp_path / "password"
        file.write_text("pässwörd")
        with serving(only(["Basic dTpww6Rzc3fDtnJk"])) as url:
            client = Client(Settings.load(opensearch_url=url, opensearch_username="u", opensearch_password_file=file))
            assert client.request("GET", "/") == {"ok": True}

    def test_a_token_is_sent_as_it_is_given(self):
        """And is a secret of the settings."""
        with serving(only(["Bearer t0k3n"])) as url:
            settings = Settings.load(opensearch_url=url, opensearch_token="t0k3n")
            assert Client(settings).request("GET", "/") == {"ok": True}
        assert "t0k3n" not in repr(settings)
        assert "t0k3n" not in repr(Credentials.read(settings))

    def test_a_function_that_always_has_another_token_is_asked_once(self):
        """It must not turn a refusal into an endless loop."""
        tokens = iter(range(100))
        with serving(only([])) as url:
            client = Client(
                Settings.load(opensearch_url=url, opensearch_authorization=lambda: f"Bearer {next(tokens)}")
            )
            with pytest.raises(CredentialsError):
                client.request("GET", "/")
        assert next(tokens) == 2

    def test_a_secret_that_cannot_be_read_is_named_at_start(self, tmp_path):
        """And not in the background."""
        with pytest.raises(SettingsError, match="opensearch_token_file"):
            Client(Settings.load(opensearch_url="http://127.0.0.1:9", opensearch_token_file=tmp_path / "none"))
        with pytest.raises(SettingsError, match="TLS files"):
            Client(Settings.load(opensearch_url="https://127.0.0.1:9", opensearch_ca_file=tmp_path / "none"))

    def test_two_kinds_of_credentials_contradict_each_other(self):
        """Nobody should have to know which one wins."""
        with pytest.raises(SettingsError, match="give one of opensearch_password and opensearch_token"):
            Settings.load(opensearch_password="a", opensearch_token="b")

    def test_client_certificates_are_loaded_afresh_when_refused(self, tmp_path):
        """The server trusts another authority from now on, and the files are replaced."""
        for name in ("server", "old", "new"):
            (tmp_path / name).mkdir()
            write_certificates(tmp_path / name)

        def trusting(name):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tmp_path / "server/node.pem", tmp_path / "server/node-key.pem")
            context.load_verify_locations(tmp_path / name / "ca.pem")
            context.verify_mode = ssl.CERT_REQUIRED
            return context

        def present(name):
            for file in ("node.pem", "node-key.pem"):
                (tmp_path / f"fresh-{file}").write_bytes((tmp_path / name / file).read_bytes())
                (tmp_path / f"fresh-{file}").replace(tmp_path / file)

        present("old")
        tls = [trusting("old")]
        with serving(lambda _: (200, {"connection": "close"}, b'{"ok":true}'), tls) as url:
            client = Client(
                Settings.load(
                    opensearch_url=url,
                    opensearch_ca_file=tmp_path / "server/ca.pem",
                    opensearch_client_cert=tmp_path / "node.pem",
                    opensearch_client_key=tmp_path / "node-key.pem",
                )
            )
            assert client.request("GET", "/") == {"ok": True}
            tls[0] = trusting("new")
            with pytest.raises(UnreachableError):
                client.request("GET", "/")
            present("new")
            with pytest.raises(UnreachableError):  # whose connection was still made with the old ones
                client.request("GET", "/")
            assert client.request("GET", "/") == {"ok": True}

    def test_a_server_of_another_authority_is_refused_with_a_remedy(self, tmp_path):
        """Nothing is sent to whoever happens to listen."""
        write_certificates(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "node.pem", tmp_path / "node-key.pem")
        with (
            serving(ok, [context]) as url,
            pytest.raises(UnreachableError, match="Set opensearch_ca_file"),
        ):
            Client(Settings.load(opensearch_url=url)).request("GET", "/")


class TestHosts:
    def test_a_host_that_refuses_is_passed_over(self):
        """Every request succeeds while one host is there."""
        with serving(ok) as url:
            dead = f"http://127.0.0.1:{free_port()}"
            client = Client(Settings.load(opensearch_url=f"{dead},{url}"))
            assert [client.request("GET", "/") for _ in range(10)] == [{"ok": True}] * 10

    def test_a_request_that_was_sent_is_not_repeated_on_another_host(self):
        """Nobody knows whether it was carried out."""
        asked = []

        def break_off(handler):
            asked.append(handler.path)

        with serving(break_off) as one, serving(break_off) as other:
            client = Client(Settings.load(opensearch_url=f"{one},{other}"))
            with pytest.raises(UnreachableError) as caught:
                client.request("POST", "/x", body={})
        assert caught.value.was_sent
        assert len(asked) == 1

    def test_where_nobody_listens_nothing_was_sent(self):
        """So it may be sent again without a look."""
        client = Client(Settings.load(opensearch_url=f"http://127.0.0.1:{free_port()}"))
        with pytest.raises(UnreachableError) as caught:
            client.request("GET", "/")
        assert not caught.value.was_sent

    def test_a_host_that_fails_is_left_alone_for_a_while(self):
        """A 503 from one node need not be the next one's."""
        asked = []

        def failing(handler):
            asked.append(handler.path)
            return 503, {}, b"{}"

        with serving(failing) as bad, serving(ok) as good:
            client = Client(Settings.load(opensearch_url=f"{bad},{good}"))
            for _ in range(10):
                try:
                    client.request("GET", "/")
                except RefusedError:
                    continue
        assert len(asked) == 1

    def test_a_clock_that_is_set_back_keeps_no_host_away(self, monkeypatch):
        """It was passed over for seconds, and not until the clock is there again."""
        failing = []

        def host(handler):
            return (503, {}, b"{}") if handler.server.server_port in failing else ok(handler)

        with serving(host) as one, serving(host) as other:
            ports = [int(url.rpartition(":")[2]) for url in (one, other)]
            client = Client(Settings.load(opensearch_url=f"{one},{other}"))
            with monkeypatch.context() as ahead:
                ahead.setattr(time, "time", lambda: 4e9)
                failing[:] = ports[:1]
                with pytest.raises(RefusedError):  # at the second request at the latest
                    for _ in range(2):
                        client.request("GET", "/")
            failing[:] = ports[1:]
            with pytest.raises(RefusedError):
                client.request("GET", "/")
            assert client.request("GET", "/") == {"ok": True}


@contextmanager
def trickling(answer, seconds_apart, limit):
    """Send *answer* byte by byte, to anybody, at most *limit* bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = threading.Event()

        def serve():
            with listener.accept()[0] as connection:
                connection.recv(65536)
                with suppress(OSError):
                    for byte in itertools.islice(itertools.cycle(answer), limit):
                        if done.wait(seconds_apart):
                            return
                        connection.sendall(bytes([byte]))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        done.set()
        thread.join(5)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


class TestDeadline:
    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 1000,
            HEAD + b"content-length: 100000\r\n\r\n" + b" " * 9999,
            HEAD + b"\r\n" + b" " * 9999,
        ],
        ids=["headers", "body", "body without length"],
    )
    def test_answer_that_trickles_ends_at_the_deadline(self, answer):
        """Each read has a byte in time; the answer as a whole never comes."""
        with trickling(answer, 0.005, 100_000) as url:
            client = Client(Settings.load(opensearch_url=url, opensearch_timeout_seconds=0.5))
            began = time.monotonic()
            with pytest.raises(UnreachableError, match=r"in time|broke off"):
                client.request("GET", "/")
            assert time.monotonic() - began < 3
            client.close()

    def test_answer_that_is_begun_may_be_read_later(self):
        with serving(lambda _: (200, {}, b'{"a": 1}' + b" " * 500_000)) as url:
            client = Client(Settings.load(opensearch_url=url, opensearch_timeout_seconds=0.3))
            read = client.begin("GET", "/")
            time.sleep(0.5)  # what reads it is busy for longer than the deadline
            assert read().strip() == b'{"a": 1}'
            client.close()

    def test_answer_that_unpacks_to_more_than_the_bound_is_not_read(self, monkeypatch):
        monkeypatch.setattr("audit_logging.opensearch.client.MOST_BYTES", 1 << 20)
        packed = gzip.compress(b" " * (64 << 20))
        with serving(lambda _: (200, {"content-encoding": "gzip"}, packed)) as url:
            client = Client(Settings.load(opensearch_url=url))
            with pytest.raises(AnswerTooLargeError):
                client.request("GET", "/")
            client.close()


class TestAnswers:
    @pytest.mark.parametrize("body", [b"<html>", b'{"cut', b"\xff"])
    def test_what_is_no_json_is_no_answer(self, body):
        """A captive portal says 200 as well."""
        with serving(lambda _: (200, {"content-type": "text/html"}, body)) as url:
            client = Client(Settings.load(opensearch_url=url))
            with pytest.raises(UnreachableError, match="is that an OpenSearch") as caught:
                client.request("GET", "/")
            assert caught.value.was_sent
            assert client.request_bytes("GET", "/") == body

    def test_an_answer_that_is_late_is_none(self):
        """The caller's patience counts."""
        release = threading.Event()
        with serving(lambda handler: release.wait(10) and ok(handler)) as url:
            client = Client(Settings.load(opensearch_url=url))
            with pytest.raises(UnreachableError, match="in time"):
                client.request("GET", "/", timeout=0.05)
            release.set()

    def test_head_tells_whether_it_is_there(self):
        """Without a body."""
        with serving(lambda handler: ok(handler) if handler.path == "/there" else (404, {}, b"{}")) as url:
            client = Client(Settings.load(opensearch_url=url))
            assert client.request("HEAD", "/there") is True
            assert client.request("HEAD", "/elsewhere") is False
            with pytest.raises(NotFoundError):
                client.request("GET", "/elsewhere")

    def test_what_the_server_asks_to_wait_is_told(self):
        """Of a proxy's page as well."""
        with serving(lambda _: (429, {"retry-after": "7", "content-type": "text/html"}, b"<html>slow down")) as url:
            client = Client(Settings.load(opensearch_url=url))
            with pytest.raises(RefusedError, match="slow down") as caught:
                client.request("GET", "/")
        assert caught.value.retry_after_seconds == 7.0

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("0", 0.0),
            (" 12 ", 12.0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 7.0),
            ("Sun, 06 Nov 1984 08:49:37 GMT", 0.0),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
            (None, None),
            ("Sun, 06 Nov 99999 08:49:37 GMT", None),
        ],
    )
    def test_retry_after_is_seconds_or_a_date(self, value, seconds):
        """And anything else is nothing."""
        assert retry_after(value, "Sun, 06 Nov 1994 08:49:30 GMT") == seconds

    @pytest.mark.parametrize("date", [None, "", "now"])
    def test_without_the_servers_clock_a_date_is_by_ours(self, date):
        """It is better than nothing."""
        asked = retry_after(
            format_datetime(dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=1), usegmt=True), date
        )
        assert asked == pytest.approx(3600, abs=60)


def test_no_log_of_anybody_holds_what_was_sent(caplog):
    """An application that debugs its HTTP traffic must not find its audit events there."""
    with caplog.at_level(logging.DEBUG), serving(ok) as url:
        Client(Settings.load(opensearch_url=url, opensearch_token="t0k3n")).request("POST", "/", body={"secret": 1})
    assert "secret" not in caplog.text
    assert "t0k3n" not in caplog.text


def test_a_child_makes_connections_of_its_own():
    """A forked process must not read its parent's answers."""
    with serving(ok) as url:
        client = Client(Settings.load(opensearch_url=url))
        assert client.request("GET", "/")
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = 0 if Client(Settings.load(opensearch_url=url)).request("GET", "/") else 2
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        assert client.request("GET", "/")
