"""Which keys hold secrets, in any spelling, and which only speak of them."""

import pytest

from audit_logging.privacy.redaction import SecretKeys


@pytest.mark.parametrize(
    "key",
    "password Password PASSWORD passwd pwd new_password newPassword user.password password_hash passphrase secret"
    " clientSecret client-secret CLIENT_SECRET token access_token refreshToken X-Api-Key api_key apiKey stripe_api_key"
    " Authorization Proxy-Authorization cookie Set-Cookie session_cookie private_key privateKey credentials cvv otp pin"
    " jwt csrf_token aws_secret_access_key".split(),
)
def test_secrets_are_recognised_in_any_spelling(key):
    """Case, dashes, dots and camel case make no difference."""
    assert SecretKeys()[key]


@pytest.mark.parametrize(
    "key",
    "user_id key_id api_key_id secretId SecretARN secretVersionId password_changed_at passwordResetRequired token_count"
    " method description monkey pinned authorized_by keyboard compass secretary tokenizer".split(),
)
def test_what_only_speaks_of_a_secret_is_kept(key):
    """An investigator needs to know which secret was read."""
    assert not SecretKeys()[key]


def test_an_application_adds_its_own_and_memory_stays_bounded():
    """Made-up keys are judged, and not remembered for ever."""
    keys = SecretKeys(["Tax-Number"])
    assert keys["taxNumber"]
    for number in range(20_000):
        assert not keys[f"k{number}"]
    assert len(keys) <= 10_000
