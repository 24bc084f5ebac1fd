"""aurod against its simulator: the shared suite, then the contract's own traps (the numbers are those of its section 6)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from accounts.providers.aurod import Aurod
from accounts.providers.base import Provider
from accounts.providers.errors import (
    CredentialsRejected,
    MalformedAnswer,
    NotFound,
    OutcomeUnknown,
    PermissionRefused,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
)
from accounts.providers.records import Page, Ref, RemoteConversation
from accounts.providers.schema import validate
from tests.providers.contract import ContractSuite, ProviderCase
from tests.simulators.aurod import AurodSimulator
from tests.simulators.kit import Call

BY_UPDATE = {"list_order": "updated"}


class TestAurod(ContractSuite):
    key = "aurod"
    other_model = "deepseek-reasoner"
    config_change = {"temperature": 0.3, "contextCount": 4, "prompt": "第一行\n“引号” \n", "topSort": 2, "icon": "📎"}
    bad_config = {"contextCount": 66}
    moving = ({}, BY_UPDATE, {"pinned": "in_place"})


class Case(ProviderCase):
    """What the tests below share."""

    key = "aurod"
    make: Callable[..., AurodSimulator]  # type: ignore[assignment]

    @staticmethod
    def sent(simulator: AurodSimulator, method: str, path: str = "/api/chat/session") -> list[Call]:
        return [call for call in simulator.log if call.method == method and path in call.path]

    def special(self, simulator: AurodSimulator, title: str) -> str:
        return next(remote_id for remote_id, stored in simulator.truth().items() if stored["title"] == title)


class TestWholeObjectWrite(Case):
    """5.7 and gotchas 1, 2, 3, 7, 8 and 13."""

    def put(self, simulator: AurodSimulator, remote_id: str, changes: dict[str, Any], **meanwhile: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Reads and writes one session; returns the object as the list told it and the body that was sent."""

        async def work(provider: Provider) -> RemoteConversation:
            current = await provider.read(Ref(remote_id))
            await provider.write(current, changes)
            return current

        current = self.using(simulator, work)
        return dict(current.raw), self.sent(simulator, "PUT")[-1].body

    @pytest.mark.parametrize("release", ["2.14", "3.4"])
    def test_gotcha_1_every_key_known_or_not_goes_back_as_it_came_and_none_is_added(self, release: str) -> None:
        simulator = self.make(switches={"release": release, "extra_keys": "refused"})
        for title in ("带插件的对话", "置顶的对话", "由应用创建"):
            told, sent = self.put(simulator, self.special(simulator, title), {"title": title + " 2"})
            assert list(sent) == list(told) and len(sent) == (18 if release == "2.14" else 22)
            assert json.dumps(sent) == json.dumps(told | {"name": title + " 2"})

    def test_gotcha_13_null_empty_list_and_empty_text_stay_what_they_are_and_numbers_stay_numbers(self) -> None:
        simulator = self.make()
        remote_id = self.special(simulator, "周报整理")
        clean, errors = validate(Aurod.config_fields, {"contextCount": "4", "temperature": "0.5", "maxToken": "0", "presencePenalty": "-1"})
        assert not errors
        _told, sent = self.put(simulator, remote_id, clean)
        kept = {"plugins": [], "mcp": [], "localPlugins": None, "icon": "", "frequencyPenalty": 0, "useAppId": 0, "id": int(remote_id)}
        assert {name: sent[name] for name in kept} == kept
        changed = [sent[name] for name in ("contextCount", "temperature", "maxToken", "presencePenalty")]
        assert changed == [4, 0.5, 0, -1] and [type(value) for value in changed] == [int, float, int, int]

    def test_values_outside_of_the_forms_limits_survive_a_change_of_something_else(self) -> None:
        simulator = self.make()
        remote_id = self.special(simulator, "Beyond the form's limits")
        before = simulator.truth()[remote_id]
        assert before["contextCount"] == 65536 and before["temperature"] == 1.7 and before["prompt"] == " two\r\nlines "
        self.put(simulator, remote_id, {"title": "renamed"})
        assert simulator.truth()[remote_id] == before | {"title": "renamed"}

    def test_a_setting_that_this_release_lacks_is_refused_unsent(self) -> None:
        simulator = self.make()
        with pytest.raises(RequestRejected):
            self.put(simulator, next(iter(simulator.truth())), {"webSearch": True})
        assert simulator.writes() == []

    def stale(self, change: dict[str, Any]) -> tuple[AurodSimulator, str, RemoteConversation | None]:
        """Writes a title from an object that is 10 s old while somebody else made `change`."""
        simulator = self.make()
        remote_id = self.special(simulator, "周报整理")

        async def work(provider: Provider) -> RemoteConversation | None:
            current = await provider.read(Ref(remote_id))
            simulator.change_by_somebody(remote_id, **change)
            return await provider.write(replace(current, read_at=current.read_at - 10), {"title": "ours"})

        return simulator, remote_id, self.using(simulator, work)

    def test_gotcha_2_what_others_changed_elsewhere_since_an_old_read_is_carried_over(self) -> None:
        simulator, remote_id, answer = self.stale({"model": "kimi-k2", "prompt": "theirs"})
        stored = simulator.truth()[remote_id]
        assert (stored["title"], stored["model"], stored["prompt"]) == ("ours", "kimi-k2", "theirs")
        assert answer is not None and answer.title == "ours"

    def test_gotcha_2_a_change_of_the_same_value_since_an_old_read_stops_the_write(self) -> None:
        simulator, remote_id, answer = self.stale({"title": "theirs"})
        assert simulator.writes() == [] and simulator.truth()[remote_id]["title"] == "theirs"
        assert answer is not None and answer.title == "theirs"

    def test_gotcha_2_after_a_long_refusal_the_session_is_read_again_before_it_is_sent_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        simulator = self.make()
        remote_id = self.special(simulator, "周报整理")
        monkeypatch.setattr("accounts.providers.parts.listing.FRESH_FOR", 0.02)  # the refusal's silence here is 0.05 s

        async def work(provider: Provider) -> None:
            current = await provider.read(Ref(remote_id))
            refuse = simulator.throttled

            def refuse_while_somebody_writes(request: Any) -> Any:
                simulator.change_by_somebody(remote_id, model="kimi-k2")
                return refuse(request)

            simulator.throttled = refuse_while_somebody_writes  # type: ignore[method-assign]
            simulator.add_fault("throttle", writes_only=True)
            await provider.write(current, {"title": "ours"})

        self.using(simulator, work)
        assert len(simulator.writes()) == 2
        assert (simulator.truth()[remote_id]["title"], simulator.truth()[remote_id]["model"]) == ("ours", "kimi-k2")

    def test_gotcha_3_a_write_that_changes_nothing_is_harmless(self) -> None:
        simulator = self.make()
        remote_id = self.special(simulator, "周报整理")
        before = simulator.truth()
        self.put(simulator, remote_id, {"title": "周报整理"})
        assert simulator.truth() == before

    def test_gotcha_7_the_prompt_is_sent_exactly_as_given(self) -> None:
        simulator = self.make()
        remote_id = self.special(simulator, "周报整理")
        prompt = " “一” \r\n\r\n\ttwo  \n"
        clean, errors = validate(Aurod.config_fields, {"prompt": prompt})
        self.put(simulator, remote_id, clean)
        assert not errors and simulator.truth()[remote_id]["prompt"] == prompt
        assert next(field for field in Aurod.config_fields if field.name == "prompt").warning

    @pytest.mark.parametrize("answer", ["stored", "ignored"])
    def test_gotcha_8_an_apps_session_carries_a_warning_and_its_answer_is_believed_only_as_told(self, answer: str) -> None:
        simulator = self.make(switches={"app_model": answer})
        remote_id = self.special(simulator, "由应用创建")
        model = simulator.truth()[remote_id]["model"]

        async def work(provider: Provider) -> tuple[RemoteConversation, RemoteConversation | None]:
            current = await provider.read(Ref(remote_id))
            return current, await provider.write(current, {"model": "qwen3-max"})

        current, after = self.using(simulator, work)
        assert current.warning and current.details["App"] == "7"
        assert after is not None and after.model == simulator.truth()[remote_id]["model"] == ("qwen3-max" if answer == "stored" else model)

    def test_a_write_to_a_session_that_is_gone_says_so_whatever_form_the_refusal_has(self) -> None:
        for form in AurodSimulator.SWITCHES["unknown_id"]:
            simulator = self.make(switches={"unknown_id": form})

            async def work(provider: Provider, simulator: AurodSimulator = simulator) -> None:
                current = await provider.read(Ref(self.special(simulator, "周报整理")))
                simulator.remove_by_somebody(current.remote_id)
                await provider.write(current, {"title": "x"})

            with pytest.raises(NotFound):
                self.using(simulator, work)

    @pytest.mark.parametrize("form", ["http400", "code1"])
    def test_a_refused_value_is_told_in_the_providers_words_and_leaves_everything_as_it_was(self, form: str) -> None:
        simulator = self.make(switches={"model_check": form})
        before = simulator.truth()
        with pytest.raises(RequestRejected, match="模型不存在"):
            self.put(simulator, self.special(simulator, "周报整理"), {"model": "no-such-model"})
        assert simulator.truth() == before

    def test_a_field_that_a_write_emptied_is_named_and_repair_brings_it_back(self) -> None:
        simulator = self.make()
        remote_id = self.special(simulator, "带插件的对话")
        before_write = simulator.truth()[remote_id]

        async def work(provider: Provider) -> None:
            before = await provider.read(Ref(remote_id))
            simulator.change_by_somebody(remote_id, title="new", plugins=[], prompt="")
            after = await provider.read(Ref(remote_id), fresh=True)
            assert provider.vanished(before, after, {"title": "new"}) == ("prompt", "plugins")
            await provider.repair(before, {"title": "new"})

        self.using(simulator, work)
        assert simulator.truth()[remote_id] == before_write | {"title": "new"}

    def test_what_others_emptied_before_an_old_object_was_written_is_not_brought_back(self) -> None:
        simulator = self.make()
        remote_id = self.special(simulator, "带插件的对话")

        async def work(provider: Provider) -> None:
            current = await provider.read(Ref(remote_id))
            simulator.change_by_somebody(remote_id, plugins=[], model="kimi-k2")
            await provider.write(replace(current, read_at=current.read_at - 10), {"title": "ours"})
            await provider.repair(current, {"title": "ours"})

        self.using(simulator, work)
        stored = simulator.truth()[remote_id]
        assert (stored["title"], stored["plugins"], stored["model"]) == ("ours", [], "kimi-k2") and len(simulator.writes()) == 1


class TestCredential(Case):
    """2.1, 3 and gotchas 4, 5, 6 and 17."""

    def test_gotcha_5_a_pasted_bearer_is_stripped_and_would_be_refused(self) -> None:
        simulator = self.make()
        token = simulator.credential()["token"]
        assert Aurod.clean_credentials({"token": f" Bearer {token}\n"}) == {"token": token}
        assert self.using(simulator, lambda provider: provider.check(), credentials=simulator.credential() | {"token": f"bearer  {token}"})

        async def unstripped(url: str) -> None:
            async with self.provider(simulator, url) as provider:
                provider.credentials = {"token": f"Bearer {token}", "app_version": "2.14.0"}
                await provider.check()

        with self.served(simulator) as url, pytest.raises(CredentialsRejected):
            self.run(unstripped(url))

    def test_gotcha_6_the_end_of_a_token_is_read_from_it_without_a_request(self) -> None:
        simulator = self.make()
        issued = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())

        async def work(url: str) -> list[datetime | None]:
            ends = []
            for token in (simulator.token(issued=issued), "a.b.c", "not a token", "a.eyJleHAiOjFlNDAwfQ.c", "a.eyJleHAiOiJ4In0.c"):
                async with self.provider(simulator, url, credentials={"token": token}) as provider:
                    ends.append(provider.expires_at())
            return ends

        with self.served(simulator) as url:
            ends = self.run(work(url))
        assert ends == [datetime(2026, 2, 1, tzinfo=UTC), None, None, None, None] and simulator.log == []

    def test_gotcha_4_a_token_that_has_ended_is_a_matter_of_the_account(self) -> None:
        simulator = self.make()
        ended = simulator.token(issued=int(datetime(2025, 1, 1, tzinfo=UTC).timestamp()))
        with pytest.raises(CredentialsRejected, match="登录已过期"):
            self.using(simulator, lambda provider: provider.list_conversations(), credentials={"token": ended})

    def test_gotcha_17_the_app_version_has_a_default_and_can_be_changed(self) -> None:
        simulator = self.make(switches={"app_version": "current"})
        token = simulator.credential()["token"]
        assert self.using(simulator, lambda provider: provider.check(), credentials={"token": token}).user_id == "10001"
        with pytest.raises(RequestRejected, match="版本过低"):
            self.using(simulator, lambda provider: provider.check(), credentials={"token": token, "app_version": "2.9.1"})

    def test_the_identity_is_the_users_id_with_or_without_user_info(self) -> None:
        for answer in AurodSimulator.SWITCHES["user_info"]:
            simulator = self.make(switches={"user_info": answer})
            identity = self.using(simulator, lambda provider: provider.check(), credentials=simulator.credential_of(10002))
            assert identity.user_id == "10002" and identity.expires_at is not None
            assert identity.name == ("第二用户" if answer == "there" else "")

    def test_what_cannot_be_sent_in_a_header_is_refused_in_the_form(self) -> None:
        good = {"token": "aaa.bbb.ccc"}
        assert Aurod.check_credentials(good) == {}
        for wrong in ({"token": "aaa\nbbb"}, {"token": "令牌"}, {"token": "a b"}, {"cookie": "a=1\r\nx: y"}, {"user_agent": "浏览器"}, {"token": ""}):
            assert Aurod.check_credentials(good | wrong).keys() == wrong.keys()

    def test_an_address_copied_from_the_browser_is_understood(self) -> None:
        simulator = self.make()

        async def work(url: str) -> None:
            for tail in ("", "/", "/chat", "/chat/", "/api"):
                async with self.provider(simulator, url + tail) as provider:
                    await provider.check()

        with self.served(simulator) as url:
            self.run(work(url))


class TestAnswers(Case):
    """2.2 and 2.3: every failure is decided where the answer is read."""

    @pytest.mark.parametrize(
        ("status", "body", "read", "write"),
        [
            (200, {"code": 2, "data": None, "msg": "x"}, CredentialsRejected, CredentialsRejected),
            (401, {"code": 0, "data": None, "msg": ""}, CredentialsRejected, CredentialsRejected),
            (401, "", CredentialsRejected, CredentialsRejected),
            (200, {"code": 1, "data": None, "msg": "不行"}, RequestRejected, RequestRejected),
            (200, {"code": 7, "data": None, "msg": "不行"}, RequestRejected, RequestRejected),
            (200, {"code": -2, "data": None, "msg": "授权"}, ProviderUnavailable, ProviderUnavailable),
            (400, {"code": 1, "data": {"msg": "不行"}, "msg": ""}, RequestRejected, RequestRejected),
            (400, "Bad Request", RequestRejected, RequestRejected),
            (403, "<html>WAF</html>", RateLimited, RateLimited),
            (403, {"code": 1, "data": None, "msg": "无权限"}, PermissionRefused, PermissionRefused),
            (429, "", RateLimited, RateLimited),
            (200, {"code": 429, "data": None, "msg": ""}, RateLimited, RateLimited),
            (500, {"code": 2, "data": None, "msg": ""}, ProviderUnavailable, OutcomeUnknown),
            (502, "<html></html>", ProviderUnavailable, OutcomeUnknown),
            (302, "", MalformedAnswer, MalformedAnswer),
            (200, "<html></html>", MalformedAnswer, OutcomeUnknown),
            (200, "", MalformedAnswer, OutcomeUnknown),
            (200, [], MalformedAnswer, OutcomeUnknown),
            (200, {"error": None}, MalformedAnswer, OutcomeUnknown),
        ],
    )
    def test_each_form_has_its_error(self, status: int, body: Any, read: type[ProviderError], write: type[ProviderError]) -> None:
        provider = Aurod(httpx.AsyncClient(trust_env=False), {"token": "a.b.c"})
        text = body if isinstance(body, str) else json.dumps(body)
        for sent, expected in ((False, read), (True, write)):
            request = httpx.Request("PUT" if sent else "GET", "https://ai.aurod.cn/api/chat/session")
            with pytest.raises(ProviderError) as raised:
                provider.decode(httpx.Response(status, text=text, request=request), write=sent)
            assert type(raised.value) is expected
            if "不行" in text:
                assert raised.value.detail == "不行"

    def test_a_wrong_address_is_not_a_missing_conversation(self) -> None:
        provider = Aurod(httpx.AsyncClient(trust_env=False), {"token": "a.b.c"})
        for path, expected in (("session", MalformedAnswer), ("session/5", NotFound), ("record/5", NotFound), ("tmpl", MalformedAnswer)):
            request = httpx.Request("GET", f"https://ai.aurod.cn/api/chat/{path}?page=1")
            with pytest.raises(expected):
                provider.decode(httpx.Response(404, text="404 page not found", request=request), write=False)

    def test_the_wait_that_the_site_asks_for_is_passed_on(self) -> None:
        provider = Aurod(httpx.AsyncClient(trust_env=False), {"token": "a.b.c"})
        request = httpx.Request("GET", "https://ai.aurod.cn/api/chat/session")
        with pytest.raises(RateLimited) as raised:
            provider.decode(httpx.Response(429, headers={"retry-after": "7"}, request=request), write=False)
        assert raised.value.retry_after == 7

    def test_requests_beyond_what_the_site_takes_at_once_are_refused_and_carried_out_later(self) -> None:
        simulator = self.make(latency=0.05)
        simulator.max_in_flight = 2

        async def work(provider: Provider) -> int:
            pages = await asyncio.gather(*(provider.search(text) for text in "周报整理表格"), return_exceptions=True)
            return sum(isinstance(page, Page) for page in pages)

        assert self.using(simulator, work) >= 4
        assert any(call.status == 429 for call in simulator.log)


class TestModels(Case):
    """5.3, 4.3 and gotchas 9 and 10."""

    def test_gotchas_9_and_10_models_are_told_once_with_their_price_and_by_value(self) -> None:
        for release in ("2.14", "3.4"):
            models = self.using(self.make(switches={"release": release}), lambda provider: provider.list_models())
            by_id = {model.id: model for model in models}
            assert len(models) == 12 and by_id["claude-opus-4-6"].price == "1000000积分"
            assert by_id["deepseek-reasoner"].name == "深度求索 R1" and by_id["deepseek-reasoner"].group == "DeepSeek"
            assert [model.id for model in models if model.is_default] == ["gpt-4.1-mini" if release == "2.14" else "openai::gpt-4.1-mini"]
        assert "million" in Aurod.capabilities[Aurod.op_for("model")].note

    def test_gotcha_10_a_model_that_left_the_catalogue_is_kept_and_shown(self) -> None:
        simulator = self.make()
        item = self.using(simulator, lambda provider: provider.read(Ref(self.special(simulator, "Model that left the catalogue"))))
        assert item.model == "gpt-3.5-turbo-0613" == item.values["model"]

    def test_gotcha_16_times_are_those_of_china(self) -> None:
        simulator = self.make()
        item = self.using(simulator, lambda provider: provider.read(Ref("500001")))
        assert item.created_at is not None and item.created_at.astimezone(UTC) == datetime(2026, 1, 5, 1, 12, 30, tzinfo=UTC)
