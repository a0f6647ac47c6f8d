from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from airflow.api_fastapi.auth import tokens as airflow_tokens
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airflow_mlgov.api.form_token import (
    VALID_FOR,
    ForeignFormError,
    FormTokens,
    check_origin,
    tokens_for,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
OURS = FormTokens(b"key", "victor", "retail_pd")
TOKEN = OURS.make(NOW, 12)


def test_a_token_gives_back_what_the_page_was_made_from():
    assert OURS.check(TOKEN, NOW) == 12
    assert OURS.check(TOKEN, NOW + VALID_FOR) == 12


@pytest.mark.parametrize(
    "other",
    [
        FormTokens(b"other", "victor", "retail_pd"),
        FormTokens(b"key", "olivia", "retail_pd"),
        FormTokens(b"key", "victor", "other"),
        FormTokens(b"key", "retail_pd\0victor", ""),
    ],
)
def test_a_token_is_for_one_person_and_one_model(other):
    with pytest.raises(ForeignFormError, match="not made for you"):
        other.check(TOKEN, NOW)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        TOKEN[:-1],
        TOKEN + "0",
        TOKEN.replace(".12.", ".13."),
        "9" + TOKEN,
        TOKEN.replace("1", "\u0661"),
        TOKEN + "\n",
    ],
)
def test_a_changed_token_is_none(token):
    with pytest.raises(ForeignFormError, match="not made for you"):
        OURS.check(token, NOW)


def test_a_token_ends():
    with pytest.raises(ForeignFormError, match="more than 4 hours"):
        OURS.check(TOKEN, NOW + VALID_FOR + timedelta(seconds=1))


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "same-origin", "origin": "https://proxied.example"},
        {"origin": "http://airflow:8080", "host": "airflow:8080"},
        {"origin": "https://bank.example", "host": "inner:8080"},
    ],
)
def test_our_own_forms_are_let_in(headers):
    check_origin(headers, "https://bank.example/airflow")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "airflow:8080"},
        {"sec-fetch-site": "cross-site", "origin": "http://airflow:8080", "host": "airflow:8080"},
        {"sec-fetch-site": "same-site", "origin": "http://airflow:8080", "host": "airflow:8080"},
        {"sec-fetch-site": "none"},
        {"origin": "https://evil.example", "host": "airflow:8080"},
        {"origin": "http://airflow:8081", "host": "airflow:8080"},
        {"origin": "null", "host": "airflow:8080"},
        {"origin": "", "host": ""},
        {"origin": "null"},
        {"origin": "http://[", "host": "airflow:8080"},
    ],
)
@pytest.mark.parametrize("base_url", ["", "https://bank.example"])
def test_forms_from_elsewhere_are_refused(headers, base_url):
    with pytest.raises(ForeignFormError, match="another site"):
        check_origin(headers, base_url)


def test_the_key_comes_from_the_one_that_signs_sign_ins(monkeypatch):
    found = {}
    private = Ed25519PrivateKey.generate()
    for name, known in {
        "secret": {"secret_key": "one"},
        "other": {"secret_key": "two"},
        "private": {"private_key": private},
    }.items():
        monkeypatch.setattr(airflow_tokens, "get_signing_args", lambda known=known: known)
        found[name] = tokens_for("victor", "retail_pd").key
        assert tokens_for("victor", "retail_pd").check(token_of(found[name]), NOW) == 3
    assert len(set(found.values())) == 3
    assert b"one" not in found.values()


def token_of(key: bytes) -> str:
    return FormTokens(key, "victor", "retail_pd").make(NOW, 3)
