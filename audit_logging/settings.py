"""Every setting: its keyword, its ``AUDIT_*`` variable, its default and its unit, in this one table.

A keyword given in code wins over the environment; the environment wins over the default. A wrong value stops the
program at start with a :class:`~audit_logging.errors.SettingsError` that names the setting. ``docs/settings.md`` is
generated from this module.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
from collections.abc import Callable  # noqa: TC003 - pydantic reads it
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from audit_logging.errors import Keyword, SettingsError

_log = logging.getLogger("audit_logging")

ENVIRONMENT_PREFIX = "AUDIT_"
DEFAULT_STREAM = "audit-events"

STATE_WITHOUT_HOME = Path("/var/lib/audit-logging")

Durability = Literal["process", "disk", "indexed"]
Severity = Literal["info", "warning", "critical"]
OnInvalid = Literal["record", "raise"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _comma_separated(value: Any) -> Any:
    """Let an environment variable hold a list: ``a,b,c``."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _pairs(value: Any) -> Any:
    """Let an environment variable hold a mapping: ``user.login=critical,data.accessed=warning``."""
    if not isinstance(value, str):
        return value
    return dict(part.partition("=")[::2] for part in _comma_separated(value))


def _insist_on_a_plain_url(url: str) -> None:
    if not re.fullmatch(r"https?://[^\s/@?#]+/?[^\s@?#]*", url):
        raise ValueError(
            "give http(s)://host:port, and the user and password in opensearch_username and opensearch_password"
        )


_NO_TEXT = frozenset("client_ip event_id outcome source_ip source_port status_code timestamp".split())

CommaSeparated = BeforeValidator(_comma_separated)


def default_home() -> Path:
    """Return the directory of the local server, caches and state.

    It lies in ``XDG_STATE_HOME`` or ``~/.local/state``. A user without a home, such as an arbitrary uid in a container,
    gets ``/var/lib/audit-logging``.

    Source: XDG Base Directory Specification 0.8 (relative paths are ignored); Filesystem Hierarchy Standard 3.0.
    """
    base = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(base):  # noqa: PTH117 - of text that may be empty
        return Path(base) / "audit-logging"
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises without HOME and without an entry in passwd
    if not os.path.isabs(home) or home == "/":  # noqa: PTH117 - "/" is what containers call no home
        return STATE_WITHOUT_HOME
    return Path(home) / ".local/state/audit-logging"


class Settings(BaseSettings):
    """All settings of the library. Build it with :meth:`load`, which turns mistakes into one clear sentence.

    Example:
        >>> Settings.load(service="shop", stream="audit-shop").stream
        'audit-shop'
    """

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, extra="forbid", frozen=True, env_ignore_empty=True, hide_input_in_errors=True
    )

    service: str = Field("app", min_length=1, description="Name of the application; `service.name` of every event.")
    service_version: str | None = Field(None, description="Version of the application; `service.version`.")
    environment: str = Field("production", min_length=1, description="Deployment environment; `service.environment`.")

    opensearch_url: Annotated[tuple[str, ...], NoDecode, CommaSeparated] = Field(
        (), description="URL of OpenSearch, or several of one cluster, comma-separated. None: events stay in the spool."
    )
    opensearch_username: str | None = Field(None, description="User for basic authentication.")
    opensearch_password: SecretStr | None = Field(None, description="Password for basic authentication.")
    opensearch_password_file: Path | None = Field(
        None, description="File that holds the password, read again when the credentials are refused."
    )
    opensearch_token: SecretStr | None = Field(None, description="Bearer token, instead of user and password.")
    opensearch_token_file: Path | None = Field(
        None, description="File that holds the bearer token, read again when the credentials are refused."
    )
    opensearch_authorization: Callable[[], str] | None = Field(
        None,
        description="Function that returns the `Authorization` header, called again when the credentials are refused"
        " (in code only).",
    )
    opensearch_ca_file: Path | None = Field(None, description="PEM file of the authority that signed the server.")
    opensearch_client_cert: Path | None = Field(None, description="PEM certificate for mutual TLS.")
    opensearch_client_key: Path | None = Field(None, description="PEM key for mutual TLS.")
    opensearch_timeout_seconds: float = Field(30.0, gt=0, description="Longest wait for one answer, in seconds.")
    stream: str = Field(DEFAULT_STREAM, description="Data stream that holds the trail.")
    retention_days: int = Field(
        90, ge=1, description="Days every event is kept at least, counted from the rollover of its backing index."
    )
    dashboards_url: str | None = Field(
        None,
        description="URL of OpenSearch Dashboards, with its base path and workspace (`/w/<id>`) if it has them, for"
        " `setup --dashboards`; user, password and TLS files are those of OpenSearch.",
    )

    dashboards_tenant: str = Field(
        "global",
        min_length=1,
        pattern=r"^[\w .@-]+$",
        description="Tenant of OpenSearch Dashboards that `setup --dashboards` uses: `global`, `private` or a name."
        " It is ignored where there are no tenants.",
    )

    home: Path = Field(
        default_factory=default_home, description="Where the local server, caches and state live (a directory)."
    )
    spool_dir: Path | None = Field(
        None, description="Directory of the spool, on a disk that outlives the process. Default: `spool` under `home`."
    )
    durability: Durability = Field(
        "process",
        description="What has happened when an emit call returns: `process` (survives kill -9), `disk` (survives"
        " power loss), `indexed` (acknowledged by OpenSearch).",
    )
    durability_overrides: Annotated[dict[str, Durability], NoDecode, BeforeValidator(_pairs)] = Field(
        default_factory=dict,
        description="Durability per event type, over `durability`; `*` stands for anything:"
        " `user.login=disk,admin.*=disk`.",
    )
    indexed_timeout_seconds: float = Field(
        30.0, gt=0, description="Longest wait of an `indexed` call before it raises, in seconds."
    )
    spool_max_bytes: int = Field(1 << 30, ge=1 << 16, description="Size limit of this process's spool, in bytes.")
    spool_block_seconds: float = Field(
        5.0, ge=0, description="How long an emit call may wait for room in a full spool before it raises, in seconds."
    )
    segment_max_bytes: int = Field(
        16 << 20, ge=1 << 12, description="Size at which a spool segment is closed and the next begun, in bytes."
    )
    batch_max_bytes: int = Field(
        3_000_000, ge=1 << 10, description="Largest body of one bulk request, in bytes (one larger event goes alone)."
    )
    batch_seconds: float = Field(
        0.2, ge=0, description="How long the shipper waits for a batch to fill up, in seconds."
    )
    batches_in_flight: int = Field(3, ge=1, le=16, description="How many bulk requests may be under way at a time.")
    ship: bool = Field(
        True, description="Whether this process ships its events; if not, `audit-logging ship` beside it does."
    )
    shutdown_timeout_seconds: float = Field(
        10.0, ge=0, description="How long the exit of the program may wait for shipping, in seconds."
    )

    audit_searches: bool = Field(
        False,
        description="Record every reading of the trail in it, as `audit.searched` with the filter and who asked.",
    )
    audit_exports: bool = Field(
        True, description="Record every export of the trail in it, as `audit.exported` with filter, who and SHA-256."
    )
    audit_verifications: bool = Field(
        True, description="Record every verification of the trail in it, as `audit.verified` with who and findings."
    )

    signing: bool | None = Field(
        None,
        description="Sign checkpoints of the chain (docs/integrity.md). Default: when the extra `integrity` is there.",
    )
    signing_key_file: Path | None = Field(
        None,
        description="PEM file of the Ed25519 key that signs; made when it is not there, its public half beside it."
        " Default: `signing/key.pem` under `home`.",
    )
    checkpoint_seconds: float = Field(
        300.0, ge=1, description="How often a writer signs how far it came, in silence too, in seconds."
    )
    checkpoint_file: Path | None = Field(
        None, description="File to which every signed event of a writer is also appended: a second place for heads."
    )
    checkpoint_command: str | None = Field(
        None, description="Command that is given every signed event on its standard input: another second place."
    )

    on_invalid: OnInvalid = Field(
        "record",
        description="What to do with a value that does not validate: `record` it as it came and name it in"
        " `audit.invalid`, or `raise` (for tests).",
    )
    severity_overrides: Annotated[dict[str, Severity], NoDecode, BeforeValidator(_pairs)] = Field(
        default_factory=dict, description="Severity per event type, over the catalogue's: `user.login=critical,…`."
    )
    redact_keys: Annotated[frozenset[str], NoDecode, CommaSeparated] = Field(
        frozenset(), description="Keys whose values never enter the trail, in addition to the built-in ones."
    )
    redact_patterns: tuple[str, ...] = Field(
        (),
        description="Regular expressions whose matches in free text and metadata never enter the trail, beside the"
        " secrets that are found anyway. In the environment: a JSON list.",
    )
    detect_secrets: bool = Field(
        True, description="Whether secrets are looked for in free text and metadata, by their public formats."
    )
    erasable_fields: Annotated[frozenset[str], NoDecode, CommaSeparated] = Field(
        frozenset(),
        description="Keywords, keys of metadata and changed fields whose values are sealed under a key per person, so"
        " that `audit-logging erase` can make them unreadable: `user_name,user_email`. Needs the extra `privacy`.",
    )
    pseudonym_fields: Annotated[frozenset[str], NoDecode, CommaSeparated] = Field(
        frozenset(), description="Those whose values are replaced by a keyed pseudonym. Needs the extra `privacy`."
    )
    allowed_metadata: dict[str, frozenset[str]] = Field(
        default_factory=dict,
        description="Per event type, the only keys of metadata that it may carry. In the environment: a JSON object,"
        ' `{"user.login": ["method", "region"]}`.',
    )
    subject_keys_file: Path | None = Field(
        None, description="Key store of the protected fields (SQLite). Default: `privacy/subjects.sqlite` under `home`."
    )
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode, CommaSeparated] = Field(
        (), description="Networks (CIDR) of your own proxies, whose forwarding headers are believed."
    )
    console: bool | None = Field(
        None,
        description="Also print events readably to stderr. Default: on a terminal when `environment` is `development`.",
    )

    @field_validator("stream")
    @classmethod
    def _stream_is_a_name(cls, value: str) -> str:
        # OpenSearch's rules for index names, less what would be a pattern or a second stream.
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,200}", value):
            raise ValueError(
                "a stream's name is lower-case letters, digits, '.', '_' and '-', the first a letter or digit"
            )
        return value

    @field_validator("erasable_fields", "pseudonym_fields")
    @classmethod
    def _fields_can_be_protected(cls, value: frozenset[str]) -> frozenset[str]:
        if wrong := value & _NO_TEXT:
            raise ValueError(f"{', '.join(sorted(wrong))} cannot be protected: OpenSearch stores no text there")
        return value

    @field_validator("redact_patterns")
    @classmethod
    def _patterns_compile(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            try:
                if re.compile(pattern).match(""):
                    raise ValueError(f"the pattern {pattern!r} matches nothing at all, and so everywhere")
            except re.error as error:
                raise ValueError(f"the pattern {pattern!r} is no regular expression ({error})") from error
        return value

    @model_validator(mode="after")
    def _credentials_are_of_one_kind(self) -> Settings:
        secrets = ("password", "password_file", "token", "token_file", "authorization")
        given = [f"opensearch_{name}" for name in secrets if getattr(self, f"opensearch_{name}") is not None]
        if len(given) > 1:
            raise ValueError(f"give one of {' and '.join(given)}")
        return self

    @field_validator("opensearch_url")
    @classmethod
    def _urls_are_http(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            _insist_on_a_plain_url(url)
        return value

    @field_validator("dashboards_url")
    @classmethod
    def _url_is_http(cls, value: str | None) -> str | None:
        if value is not None:
            _insist_on_a_plain_url(value)
        return value

    @property
    def spool_path(self) -> Path:
        """The spool's directory, given or derived."""
        return self.spool_dir if self.spool_dir is not None else self.home / "spool"

    @property
    def subject_keys_path(self) -> Path:
        """The key store's file, given or derived."""
        return self.subject_keys_file if self.subject_keys_file is not None else self.home / "privacy/subjects.sqlite"

    @property
    def signs(self) -> bool:
        """Whether this process signs: as it was set, or as the package for it is installed."""
        if self.signing is not None:
            return self.signing
        return find_spec("cryptography") is not None

    @property
    def signing_key_path(self) -> Path:
        """The file of the signing key, given or derived."""
        return self.signing_key_file if self.signing_key_file is not None else self.home / "signing" / "key.pem"

    @classmethod
    def load(cls, **given: Any) -> Settings:
        """Return the settings from *given* keywords, the environment and the defaults.

        Raises:
            SettingsError: A setting is unknown or its value is wrong; the message names it, never a secret's value.
        """
        try:
            return cls(**given)
        except ValidationError as error:
            explained = [_explain(detail) for detail in error.errors()]
            parts = [part for each in explained for part in ("; ", *each)]
            raise SettingsError(*parts[1:]) from None
        finally:
            _warn_of_misspelt_variables()


def unknown_variables() -> dict[str, str | None]:
    """Return the environment variables that start with the prefix of settings and are not settings.

    Each has the variable of the setting that it resembles most, or None.

    Example:
        >>> os.environ["AUDIT_DURABILTY"] = "disk"
        >>> unknown_variables().pop("AUDIT_DURABILTY")
        'AUDIT_DURABILITY'
        >>> del os.environ["AUDIT_DURABILTY"]
    """
    known = [f"{ENVIRONMENT_PREFIX}{name.upper()}" for name in Settings.model_fields]
    unknown = sorted(
        name for name in os.environ if name.upper().startswith(ENVIRONMENT_PREFIX) and name.upper() not in known
    )
    if not unknown:
        return {}
    from difflib import get_close_matches

    return {name: next(iter(get_close_matches(name.upper(), known, 1, 0.8)), None) for name in unknown}


_warned_of: set[str] = set()


def _warn_of_misspelt_variables() -> None:
    for name, meant in unknown_variables().items():
        if meant is not None and name not in _warned_of:
            _warned_of.add(name)
            _log.warning("The variable %s is not a setting and is ignored; did you mean %s?", name, meant)


def _explain(detail: Any) -> tuple[str, ...]:
    reason = _with_keywords(detail["msg"].removeprefix("Value error, "))
    if not detail["loc"]:
        return "The settings contradict each other: ", *reason, "."
    name = str(detail["loc"][0])
    if detail["type"] == "extra_forbidden":
        from difflib import get_close_matches

        close = get_close_matches(name, Settings.model_fields, n=1)
        return (f"There is no setting {name!r}; {f'did you mean {close[0]!r}?' if close else 'see docs/settings.md.'}",)
    setting = Keyword(name, f"Setting {name!r} (or {ENVIRONMENT_PREFIX}{name.upper()})")
    return setting, " is wrong: ", *reason, "."


def _with_keywords(text: str) -> list[str]:
    words = re.split(r"\b([a-z]+(?:_[a-z]+)+)\b", text)
    return [Keyword(word) if word in Settings.model_fields else word for word in words]
