"""What the simulated ModelRouter holds at first (models, words, every form of history of section 5), and how it may answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

FIRST_ID = 1024
BIG_ID = 9_007_199_254_740_993  # one more than JavaScript counts exactly
Row = dict[str, Any]

MODELS: tuple[Row, ...] = (
    {"id": 1, "name": "通义千问-Max", "modelCode": "qwen-max", "modelType": "Chat", "symbol": "alibaba", "hasBillingRule": True},
    {"id": 2, "name": "通义千问-Plus", "modelCode": "qwen-plus", "modelType": "Chat", "symbol": "alibaba", "hasBillingRule": True},
    {"id": 3, "name": "DeepSeek-V3", "modelCode": "deepseek-v3", "modelType": "Chat", "symbol": "deepseek", "hasBillingRule": True},
    {"id": 5, "name": "Kimi K2", "modelCode": "kimi-k2", "symbol": "moonshot", "hasBillingRule": False},  # no modelType set
    {"id": 7, "name": "通义万相", "modelCode": "wanx-v1", "modelType": "Image", "symbol": "alibaba", "hasBillingRule": True},
    {"id": 9, "name": "千问旧版", "modelCode": "qwen-old", "modelType": "Chat", "symbol": "alibaba", "deleteTag": 1},
    {"id": 15, "name": "GLM-4.5", "modelCode": "glm-4.5", "modelType": "Chat", "symbol": "zhipu", "hasBillingRule": False},
    {"id": BIG_ID, "name": "自建 Llama", "modelCode": "llama-custom", "modelType": "Chat", "symbol": "custom", "isCustom": True},
)

TITLES = (
    "季度复盘",
    "Unit tests in Python",
    "旅行计划 🧳",
    "Bug report: flaky login",
    "数据库索引怎么选?",
    "Weekly summary ✨",
    "翻译一封邮件",
    "SQL join explained",
)
ASKED = ("你好,请帮我看看这个问题。", "How do I write a unit test?", "请总结一下这份报告", "What does this error mean? 🤔")
ANSWERED = (
    "当然可以。\n\n```python\ndef add(a: int, b: int) -> int:\n    return a + b\n```\n",
    "Here is a table:\n\n| step | what |\n| --- | --- |\n| 1 | arrange |\n| 2 | act |\n\n**Done.**",
    "1. 先读一遍\n2. 再列要点\n\n> 重点是*节奏*。",
    "It depends. See `man 7 signal`.",
)
XSS = '<script>alert("xss")</script> <img src=x onerror=alert(1)> [link](javascript:alert(1))'

# The questions that the contract leaves open, with the sections that ask them; the likeliest answer first.
SWITCHES: Mapping[str, tuple[str, ...]] = {
    # 9.1: a field left out of an update stays, or is emptied (and shown as null or as empty text)
    "update": ("partial", "whole", "whole_null"),
    # 9.7: what an update's answer holds besides the updated conversation
    "update_answer": ("object", "true", "null", "array", "without_history"),
    # 5, 11.2: how "no such conversation" looks
    "missing": ("envelope_code", "envelope_status", "envelope_message", "gateway", "null_data", "empty_array"),
    # 5, 11.2: an id outside the catalogue in modelIds
    "unknown_model": ("refused", "accepted"),
    # 6, 11.3: form of a 500
    "server_error": ("gateway", "gateway_unknown", "envelope", "envelope_200"),
    # 6, 11.3: form of a refusal by policy
    "denied": ("b_permission", "forbidden_ram", "no_permission", "envelope", "envelope_200"),
    # 6: HTTP status under which a failed envelope travels
    "failure_status": ("200", "stated"),
    # 6: how the rate is refused
    "throttling": ("milliseconds", "no_header", "zero", "garbage", "http_429", "http_503", "envelope"),
    # 4.1, 11.4: the largest page
    "page_cap": ("100", "20", "none"),
    # 5 Paging, 11.5: whether pageIndex is honoured; "echoed" ignores it and yet repeats the number asked for
    "page_index": ("honoured", "ignored", "echoed"),
    # 4.1: whether nextToken works, and how its end looks
    "next_token": ("offered", "not_offered"),
    "token_end": ("empty", "none_word", "null", "missing"),
    # 5 Paging: a page after the last one is empty, or is the last one again
    "past_end": ("empty", "last_page"),
    # 5 Paging, 11.4: the default order
    "order": ("modified_desc", "modified_asc", "id_asc", "id_desc"),
    # 4.1: the answer before and after 2026-03-23
    "list_form": ("nested", "flat"),
    # 4.1, 9.8: the total as number, as text, not told, or one too many
    "total": ("number", "text", "missing", "too_many"),
    # 9.17, 11.6: whether a row of the list carries its history
    "list_history": ("whole", "missing", "empty", "cut"),
    # 3: modelIds and chatData as typed, or as the Chinese pages print them
    "json_fields": ("text", "real"),
    # 5 Messages, 11.6: how chatData is keyed in ordinary conversations
    "history": ("messages", "request", "by_model_id", "by_model_name", "array", "array_of_models", "twice_encoded"),
    # 3, 9.6: errCode beside a success, and answers without `success`
    "err_code": ("null", "filled"),
    "success": ("present", "absent"),
    # 9.20: forms of time
    "times": ("utc", "fractions", "offset", "no_zone"),
    # 3: messageCount is as written, or counted anew by the service
    "message_count": ("stored", "recounted"),
    # 9.3: an empty title
    "empty_title": ("stored", "ignored", "refused"),
    # 11.7: the longest title
    "title_limit": ("none", "refused_at_100", "cut_at_100"),
    # 4.5: what a deletion leaves behind
    "deletion": ("hard", "soft"),
    # 1, 11.7: whether a conversation belongs to the account or to the RAM user whose key made it
    "owner": ("account", "ram_user"),
    # 4.1: which fields keyword searches
    "keyword": ("title", "title_and_history"),
}


def special_rows() -> Iterator[tuple[int, str | None, Any, Any, int]]:
    """Yields (id, title, modelIds, chatData, messageCount) of the awkward conversations, the newest last; None stands for a made history."""

    def dump(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    said = [
        {"role": "user", "content": "比较一下排序算法"},
        {"role": "assistant", "content": "快速排序平均 *O(n log n)*。", "id": "kept-unknown-key"},
    ]
    other = [{"role": "user", "content": "比较一下排序算法"}, {"role": "assistant", "content": "Merge sort is stable."}]
    parts = [
        {"role": "system", "content": "You are terse."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "这是什么?"}, {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}],
        },
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "一只猫"},
        {"role": "assistant", "content": "一只猫。", "reasoning_content": "The tool says so."},
    ]
    request = {"stream": True, "messages": said, "model": "qwen/qwen-max/r0", "temperature": 0.7, "stream_options": {"include_usage": True}}
    attack = [{"role": "user", "content": XSS}, {"role": "assistant", "content": "I will not run that."}]
    yield FIRST_ID + 1, "多模型对比", "[1,3]", dump({"1": said, "3": other}), 4
    yield FIRST_ID + 2, "按名称分组", "[1, 3]", dump({"qwen-max": {"messages": said}, "deepseek-v3": {"messages": other}, "layout": "columns"}), 4
    yield FIRST_ID + 3, "Bare array", "[3]", dump(said), 2
    yield FIRST_ID + 4, "Array of models", "[1,3,15]", dump([{"modelId": 1, "messages": said}, {"model": "deepseek-v3", "messages": other}]), 4
    yield FIRST_ID + 5, "Twice encoded", "15", dump(dump({"messages": said})), 2
    yield FIRST_ID + 6, "Whole request", "[2]", dump(request), 9  # messageCount disagrees with the history
    yield FIRST_ID + 7, "Parts, tools, reasoning 🐈", "[5]", dump({"messages": parts}), 5
    yield FIRST_ID + 8, "Unreadable history", "[1]", '{"messages": [{"role": "user", "content": "cut', 3
    yield FIRST_ID + 9, "Unknown form", "[1]", "42", 1
    yield FIRST_ID + 10, "", "[]", "{}", 0
    yield FIRST_ID + 11, None, "", "", 0
    yield FIRST_ID + 12, "Disabled one", "[9]", None, 2
    yield FIRST_ID + 13, '<b onmouseover="alert(1)">title</b>', "[1]", dump({"messages": attack}), 2
    yield FIRST_ID + 14, "一个很长的对话", "[1,3]", None, 130
    yield BIG_ID, "Id beyond 53 bits", f"[{BIG_ID}]", None, 2
    yield FIRST_ID, "季度复盘", "[1,3]", dump({"messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "你好!"}]}), 2


def made_history(identifier: int, count: int, form: str) -> str:
    """Returns `chatData` with `count` messages, always the same for one conversation, keyed in the way that the switch `history` says."""
    messages = []
    for number in range(count):
        source = ANSWERED if number % 2 else ASKED
        text = source[(identifier + number) % len(source)]
        messages.append({"role": "assistant" if number % 2 else "user", "content": f"{text} #{number + 1}"})
    whole: Any = {"messages": messages}
    if form == "request":
        whole = {"stream": True, "messages": messages, "model": "qwen/qwen-max/r0", "stream_options": {"include_usage": True}}
    elif form == "by_model_id":
        whole = {"1": messages}
    elif form == "by_model_name":
        whole = {"qwen-max": {"messages": messages}}
    elif form == "array":
        whole = messages
    elif form == "array_of_models":
        whole = [{"modelId": 1, "messages": messages}]
    elif form == "twice_encoded":
        whole = json.dumps(whole, ensure_ascii=False)
    return json.dumps(whole, ensure_ascii=False)
