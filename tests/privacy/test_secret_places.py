"""Secrets by the name of their key, by their place beside a name, and in the texts that programs really log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import audit_logging as audit
from audit_logging.events.values import REDACTED, PlainValues
from audit_logging.privacy.redaction import SecretKeys
from audit_logging.privacy.secrets import SecretText

DATA = Path(__file__).parents[3] / "shared" / "data"
KEYS = SecretKeys()
mask = SecretText(KEYS).mask
plain = PlainValues(KEYS, mask).of

SECRET_NAMES = """
password Password PASSWORD new_password newPassword passwd db_pass smtpPass user_pw pw pwd pass passphrase keyPassphrase
otp otp_code mfa_code 2fa_code totp pin pin_code recovery_codes backup_codes backup_code security_answer secret_answer
encryption_key signing_key masterKey private_key ssh_key account_key AccountKey storageKey shared_access_key api_key apiKey
x-api-key X-Api-Key csrf csrfmiddlewaretoken x-csrftoken X-CSRF-Token xsrf_token sessionid JSESSIONID PHPSESSID connect.sid
access_token refreshToken id_token auth_code verification_code connection_string mnemonic seed_phrase client_secret clientSecret
Authorization proxy-authorization Cookie Set-Cookie credentials Passwort Kennwort contraseña mot_de_passe senha wachtwoord hasło
пароль 密码 パスワード 비밀번호 ｐａｓｓｗｏｒｄ ａｐｉ＿ｋｅｙ DB_PASSWORD AWS_SECRET_ACCESS_KEY
""".split()

PLAIN_NAMES = """
password_policy passwordChangedAt password_required password_length token_count tokens_used key_id public_key primary_key foreign_key
cache_key sort_key pass_rate bypass passenger passport_country compass pinned pinterest keyboard monkey author authority session_id
secretary secret_id token_version cookie_policy code error_code status_code country_code zip_code promo_code postal_code
""".split()


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_value_under_a_secret_name_is_redacted(name):
    assert plain({name: "hunter2"}) == {name: REDACTED}
    assert plain({"deep": [{name: ["hunter2"]}]}) == {"deep": [{name: REDACTED}]}


@pytest.mark.parametrize("name", PLAIN_NAMES)
def test_value_under_a_name_that_only_speaks_of_secrets_stays(name):
    assert plain({name: "512"}) == {name: "512"}


PLACES = {
    "pairs": ([("X-Api-Key", "hunter2"), ("Accept", "text/html")], [["X-Api-Key", REDACTED], ["Accept", "text/html"]]),
    "pairs of bytes": ([(b"authorization", b"hunter2")], [["authorization", REDACTED]]),
    "option and value": (["mysql", "--password", "hunter2", "shop"], ["mysql", "--password", REDACTED, "shop"]),
    "option with a sign": (["psql", "--password=hunter2"], ["psql", f"--password={REDACTED}"]),
    "option glued": (["mysql", "-phunter2"], ["mysql", f"-p{REDACTED}"]),
    "user and password of curl": (["/usr/bin/curl", "-u", "ann:hunter2", "http://x"], ["/usr/bin/curl", "-u", REDACTED, "http://x"]),
    "sshpass": (["sshpass", "-p", "hunter2", "ssh", "h"], ["sshpass", "-p", REDACTED, "ssh", "h"]),
    "name and value": ([{"name": "password", "value": "hunter2"}], [{"name": "password", "value": REDACTED}]),
    "key and value": ({"key": "DB_PASSWORD", "value": "hunter2"}, {"key": "DB_PASSWORD", "value": REDACTED}),
    "header": ({"header": "Authorization", "content": "hunter2"}, {"header": "Authorization", "content": REDACTED}),
    "change set": ([{"field": "password", "before": None, "after": "hunter2"}], [{"field": "password", "before": None, "after": REDACTED}]),
    "change made": ({"password": {"before": "old", "after": "hunter2"}}, {"password": {"before": REDACTED, "after": REDACTED}}),
    "change first set": ({"password": {"before": None, "after": "hunter2"}}, {"password": {"before": None, "after": REDACTED}}),
    "no secret": ([{"name": "colour", "value": "red"}], [{"name": "colour", "value": "red"}]),
    "tags": (["password", "reset"], ["password", "reset"]),
    "flag without value": (["app", "--password", "--verbose"], ["app", "--password", "--verbose"]),
    "negative number": (["app", "-5", "x"], ["app", "-5", "x"]),
    "a flag": ({"password": True, "forceOverwriteReplicaSecret": False}, {"password": True, "forceOverwriteReplicaSecret": False}),
    "not set": ({"password": None}, {"password": None}),
}  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), PLACES.values(), ids=PLACES)
def test_secret_is_found_by_its_place(given, expected):
    assert plain(given) == expected


def test_changes_of_an_event_tell_set_from_changed():
    with audit.record_events() as events:
        log = audit.get_logger()
        log.user_profile_update(user_id="u", changes=[{"field": "password", "before": "a", "after": "hunter2"}])
        log.user_profile_update(user_id="u", changes={"password": {"before": None, "after": "hunter2"}})
    first, second = (event["audit"]["changes"][0] for event in events)
    assert first == {"field": "password", "before": REDACTED, "after": REDACTED}
    assert second.pop("before", None) is None
    assert second == {"field": "password", "after": REDACTED}


def test_secret_that_is_a_key_is_redacted():
    token = "ghp_" + "a1B2c3D4" * 5
    assert token not in json.dumps(plain({"seen": {token: 1}}))


TEXTS = """
Login failed: password=hunter2
ValueError: password=hunter2
env: DB_PASSWORD=hunter2
headers: x-api-key: hunter2
url=/login?user=ann&password=hunter2
GET /login?password=hunter2&next=/ HTTP/1.1
password: hunter2
PASSWORD = "hunter2"
{"password": "hunter2"}
{'password': 'hunter2', 'user': 'ann'}
"{\\"password\\": \\"hunter2\\"}"
{"body": "{\\"user\\": \\"ann\\", \\"pwd\\": \\"hunter2\\"}"}
User(name='ann', password='hunter2')
LoginForm(username="ann", password="hunter2")
<password>hunter2</password>
<ns:Password type="text">hunter2</ns:Password>
<user name="ann" password="hunter2"/>
CREATE USER 'ann' IDENTIFIED BY 'hunter2'
ALTER USER ann IDENTIFIED WITH mysql_native_password BY 'hunter2'
ALTER ROLE ann WITH PASSWORD 'hunter2'
curl -u ann:hunter2 https://api.example.com/
curl --user ann:hunter2 https://api.example.com/
mysql -u root -phunter2 shop
mysqldump --password=hunter2 shop
sshpass -p hunter2 ssh host
psql --password hunter2x9
Server=db;Database=shop;User Id=ann;Password=hunter2;
DefaultEndpointsProtocol=https;AccountName=shop;AccountKey=hunter2==;EndpointSuffix=core
Endpoint=sb://shop/;SharedAccessKeyName=root;SharedAccessKey=hunter2=
postgresql://ann:hunter2@db.example.com:5432/shop
postgresql://ann:hu/nter2@db.example.com/shop
mongodb://ann:p@hunter2@db1.example.com:27017,db2.example.com/shop
redis://:hunter2@cache:6379/0
amqp://ann:hunter2@mq//
https://ann:hunter2@example.com/path?x=1
Cookie: theme=dark; sessionid=hunter2; lang=de
Cookie: a=hunter2; b=2
Set-Cookie: sid=hunter2; Path=/; HttpOnly
Authorization: Bearer hunter2hunter2
Authorization: Digest username="ann", response=hunter2
Proxy-Authorization: Basic hunter2hunter2
-H "Authorization: Token hunter2"
- name: DB_PASSWORD\\n  value: hunter2
{"name": "API_KEY", "value": "hunter2"}
export API_KEY=hunter2
API_KEY="hunter2" ./run.sh
set PGPASSWORD=hunter2
secret_key = 'hunter2'
otp_code=hunter2
pin: hunter2
csrfmiddlewaretoken=hunter2&user=ann
Passwort: hunter2
contraseña=hunter2
mot_de_passe: hunter2
пароль: hunter2
パスワード：hunter2
client_secret=hunter2&grant_type=client_credentials
refresh_token=hunter2
KeyError: 'x' while reading {'token': 'hunter2'}
sqlalchemy.exc.IntegrityError: [parameters: {'name': 'ann', 'password': 'hunter2'}]
requests.exceptions.HTTPError: 401 for url: https://api.example.com/?api_key=hunter2
pydantic: password\\n  Value error, too short [type=value_error, input_value={'password': 'hunter2'}]
kubectl create secret generic db --from-literal=password=hunter2
docker login -u ann --password hunter2x9 registry
aws_secret_access_key = hunter2
spring.datasource.password=hunter2
smtp.password: hunter2
[auth] user=ann passwd=hunter2 host=1.2.3.4
login(user=ann, pass=hunter2)
security_answer: hunter2
mnemonic="hunter2"
password="hunter2 in a text that was cut
{"user": "ann", "password": "hunter2
""".strip().splitlines()  # fmt: skip


@pytest.mark.parametrize(
    "text", [text.replace("\\n", "\n") if "name: DB" in text or "pydantic" in text else text for text in TEXTS]
)
def test_secret_in_a_text_is_redacted(text):
    masked = mask(text)
    assert "hunter2" not in masked
    assert REDACTED in masked


def test_only_the_content_of_an_element_is_redacted():
    assert mask("<password>password</password>") == f"<password>{REDACTED}</password>"


ORDINARY = """
The password policy requires 12 characters
password changed for u-42
Password reset link sent
token expired
tokens_used=512 tokens_left=100
token_count: 512
primary_key=7 foreign_key=9
cache_key=products:4711
sort_key: name
key_id=4711
public_key_url=https://example.com/key
pass: 12 fail: 3 skipped
passed=12 failed=3
compass=north
author=jane.doe
authority=example.com
keyboard=qwerty
monkey=banana
session_id=abc
status_code=200 error_code=17
http://host:8080/path?mail=ann@example.com
https://example.com:443/@ann
contact ann@example.com: see 12:30
ratio 16:9 at 10:45
<name>ann</name><code>200</code>
<passwordPolicy>strict</passwordPolicy>
CREATE TABLE t AS SELECT 1
identified by its id
name: colour value: red
{"name": "colour", "value": "red"}
tar -p -u file
pip install -u requests
arn:aws:secretsmanager:eu-west-1:123456789012:secret:shop/database-a1B2c3
order 4111.2222.3333.4444 shipped
version 1.2.3.4 at 2026-03-01 12:00:00
""".strip().splitlines()


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text):
    assert mask(text) == text


@pytest.mark.parametrize(
    "number", ["4111.1111.1111.1111", "4111\u00a01111\u00a01111\u00a01111", "5500\u202f0000\u202f0000\u202f0004"]
)
def test_card_number_is_found_whatever_separates_it(number):
    assert mask(f"Card {number} was refused") == f"Card {REDACTED} was refused"


@pytest.mark.skipif(not DATA.exists(), reason="the real log (../shared/data) is not here")
def test_real_log_lines_keep_their_facts():
    """2,000 lines of sshd hold no secret."""
    lines = (DATA / "openssh.log").read_text("utf-8", "replace").splitlines()
    changed = [line for line in lines if mask(line) != line]
    assert len(lines) == 2000
    assert changed == []
