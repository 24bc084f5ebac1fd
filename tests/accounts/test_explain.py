"""Errors in a person's language, and errors that were stored in between."""

from __future__ import annotations

import pytest
from django.utils.translation import override

from accounts import explain
from accounts.providers import errors
from accounts.providers.errors import ProviderError

KINDS = [ProviderError, *ProviderError.__subclasses__()]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_comes_back_from_storage_as_it_was(kind: type[ProviderError]) -> None:
    error = kind("Something\nwent wrong.", status=418, detail="the provider's\n own words")
    back = explain.unpack(explain.pack(error))
    assert type(back) is kind and (back.status, back.detail, back.message) == (418, "the provider's own words", "Something went wrong.")
    assert explain.explain(back)["kind"] == kind.kind
    assert explain.unpack(explain.pack(kind())).status is None


def test_an_old_or_cut_text_is_still_an_error_and_an_empty_one_is_none() -> None:
    assert explain.unpack("") is None
    assert explain.unpack("HTTP 500: it broke").message == "HTTP 500: it broke"
    cut = explain.pack(errors.RateLimited("m" * 300, status=429, detail="d" * 300))[:400]
    assert type(explain.unpack(cut)) is errors.RateLimited


def test_every_kind_has_a_sentence_of_its_own_and_no_class_name() -> None:
    said = {kind: explain.explain(kind("It broke.", status=500)) for kind in KINDS}
    sentences = [words["sentence"] for kind, words in said.items() if kind not in (ProviderError, errors.Unsupported)]
    assert len(set(sentences)) == len(sentences) == 9
    for kind, words in said.items():
        assert words["sentence"] and kind.__name__ not in " ".join(words.values())


def test_sentences_stand_apart_as_their_language_writes_them() -> None:
    assert explain.sentences("0 to 1.", "", "Tokens.") == "0 to 1. Tokens."
    assert explain.sentences("0 至 1。", "单轮对话的 Token 数。") == "0 至 1。单轮对话的 Token 数。"


def test_the_general_sentence_is_not_said_twice_and_an_empty_one_stays_empty() -> None:
    plain = explain.explain(errors.CredentialsRejected("The provider does not accept this credential.", status=401, detail="no such key"))
    assert plain["detail"] == "HTTP 401 · no such key"
    special = explain.explain(errors.CredentialsRejected("This key manages several agents.", status=401))
    assert special["detail"] == "HTTP 401 · This key manages several agents."
    with override("zh-hans"):
        assert explain.said("") == ""
