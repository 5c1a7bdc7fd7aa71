"""Secrets in free text do not enter the trail; ordinary text does, as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_logging.events.values import REDACTED
from audit_logging.privacy.redaction import SecretKeys
from audit_logging.privacy.secrets import SecretText
from tests.privacy.secret_kinds import secret_kinds

KINDS = secret_kinds(seed=20261124)
SETTINGS = {
    "alone": "{}",
    "at the end of a sentence": "The job failed with {}",
    "in a sentence": "Rotated {} yesterday, as agreed.",
    "quoted": 'The value "{}" was refused.',
    "after a non-ASCII word": "Schlüssel für Köln → {}",
}

mask = SecretText(SecretKeys()).mask


class TestSecrets:
    def test_there_are_two_hundred_kinds(self):
        assert len({kind for kind, _, _ in KINDS}) >= 200

    @pytest.mark.parametrize("around", SETTINGS.values(), ids=SETTINGS)
    @pytest.mark.parametrize("kind", KINDS, ids=[kind for kind, _, _ in KINDS])
    def test_no_part_of_a_secret_stays(self, kind, around):
        """Whatever stands around it."""
        _, secret, parts = kind
        masked = mask(around.format(secret))
        assert REDACTED in masked
        left = [part for part in parts if part in masked]
        assert not [part for part in left if len(part) >= 5 or len(part) == len(max(parts, key=len))], masked

    @pytest.mark.parametrize("kind", KINDS[::7], ids=[kind for kind, _, _ in KINDS[::7]])
    def test_masking_twice_changes_nothing_more(self, kind):
        """What is redacted stays redacted, and what stayed stays."""
        once = mask(f"It was {kind[1]} that failed.")
        assert mask(once) == once


ORDINARY = [
    "bob failed to log in: bad password",
    "The password is required.",
    "token expired",
    "Password reset for u-42 was requested at 2026-11-24T20:30:12.123456Z",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "request 5f0c6f5e-6d2f-4c39-9d2b-0b5b7f0f6a11 answered 503",
    "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "commit=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
    "request_id=5f0c6f5e6d2f4c399d2b0b5b7f0f6a11",
    "trace_id: 4bf92f3577b34da6a3ce929d0e0e4736",
    "arn:aws:iam::123456789012:user/bob",
    "/var/lib/shop/archive-2026-11-24/orders_000017.parquet",
    "https://example.com/products/4711?page=2&sort=price_ascending#reviews",
    "Payment pi_3MtwBwLkdIwHu7ix28a3tqPa of order 1234567890123456 failed",
    "GET /api/v2/organisations/acme/members?role=administrator answered 200",
    "Invited first.last+audit@mail.example.com to the organisation",
    "key rotated; the old one ends with 7f3a",
    "postgresql://db.example.com:5432/shop",
    "retention: 90 days, ratio=0.75, limit=500.00, colour=#ff8800, host=db-17.eu-central-1.example.com",
    "ISBN 978-3-16-148410-0, phone +49 30 901820, IBAN DE89 3704 0044 0532 0130 00",
    "01ARZ3NDEKTSV4RRFFQ69G5FAV",
]


class TestOrdinaryText:
    @pytest.mark.parametrize("text", ORDINARY)
    def test_stays_as_it_is(self, text):
        """A trail without its ids, paths and times would be of no use."""
        assert mask(text) == text

    def test_a_reference_may_look_drawn_by_lot(self):
        """The key says that it is no secret."""
        drawn = "V1StGXR8Z5jdHi6BmyTq7Lw3Kc9Pf0Xa2Nd"
        assert mask(drawn, name="order_id") == drawn
        assert mask(drawn, name="note") == REDACTED
        for ordinary in (
            "507f1f77bcf86cd799439011",
            ".ds-audit-test-23f93185df95-000001",
            "eu-central-1a/i-0abcd1234ef567890",
        ):
            assert mask(ordinary, name="cart") == ordinary

    @given(st.text())
    def test_any_text_is_taken(self, text):
        """Surrogates and control characters included."""
        assert isinstance(mask(text), str)


CARDS = ["4111111111111111", "4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005", "6011111111111117"]


class TestCards:
    @pytest.mark.parametrize("number", CARDS)
    def test_a_cards_number_is_masked(self, number):
        """With and without spaces."""
        assert mask(f"Card {number} was refused.") == f"Card {REDACTED} was refused."

    @pytest.mark.parametrize("number", CARDS)
    def test_a_number_with_another_last_digit_is_none(self, number):
        """The checksum tells."""
        other = number[:-1] + str((int(number[-1]) + 1) % 10)
        assert other in mask(f"Order {other} was refused.")


HOSTILE = {
    "one long word": "a1B" * 10_000,
    "signs": "=" * 30_000,
    "signs and names": "a:" * 15_000,
    "names of secrets": "key " * 8_000,
    "begun keys": "-----BEGIN PRIVATE KEY-----" * 1_000,
    "begun urls": "http://a:" * 3_000,
    "digits": "4 1" * 10_000,
    "quotes": "a='" * 10_000,
    "dots": "ey1.ey1" * 4_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_takes_linear_time(text):
    """Twice as much text may take three times as long, and not four."""
    import time

    def seconds(text):
        rounds = []
        for _ in range(5):
            started = time.process_time()
            mask(text)
            rounds.append(time.process_time() - started)
        return min(rounds)

    assert seconds(text) < max(seconds(text[: len(text) // 2]) * 3.5, 0.02)
