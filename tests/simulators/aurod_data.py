"""What the stand-in for aurod is made of: synthetic users, models, titles and texts, and the types and limits of the contract's section 4."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

ZONE = timezone(timedelta(hours=8))  # 2.4
BEGIN = datetime(2026, 1, 5, 9, 12, 30, tzinfo=ZONE)
UNTITLED = "新对话"
PROMPT = "你是一位可靠的助手。\n回答要简洁。 “不得用于违法用途”\n"  # the operator's default: curly quotes and a trailing break matter
USERS = {10001: ("user@example.com", "测试用户"), 10002: ("second@example.com", "第二用户")}
PASSWORD = "synthetic-password"
SIGNING_KEY = b"synthetic-signing-key"
RECORDS_A_PAGE = 10

# name -> types that the server takes (4.1); bool is never a number here
TYPES: dict[str, tuple[type, ...]] = {
    "id": (int,),
    "created": (str,),
    "updated": (str,),
    "uid": (int,),
    "name": (str,),
    "model": (str,),
    "maxToken": (int,),
    "contextCount": (int,),
    "temperature": (int, float),
    "presencePenalty": (int, float),
    "frequencyPenalty": (int, float),
    "prompt": (str,),
    "topSort": (int,),
    "icon": (str,),
    "plugins": (list, type(None)),
    "mcp": (list, type(None)),
    "localPlugins": (list, type(None)),
    "useAppId": (int,),
}
RANGES = {
    "maxToken": (0, 10**9),
    "contextCount": (0, 65),
    "temperature": (0, 1),
    "presencePenalty": (-2, 2),
    "frequencyPenalty": (-2, 2),
    "topSort": (0, 100),
}
LENGTHS = {"name": 50, "icon": 200}

# label, value, vendor group, price; repeats and labels that differ wildly from the value are as in 4.3
MODELS = (
    ("GT-4.1-mini", "gpt-4.1-mini", "ChatGPT", "1积分"),
    ("GT-5-Chat【流式】", "gpt-5-chat", "ChatGPT", "1积分"),
    ("GT-5.2 思考", "gpt-5.2-thinking", "ChatGPT", "10积分"),
    ("GT-4o", "gpt-4o", "ChatGPT", "2积分"),
    ("深度求索 V3.2", "deepseek-chat", "DeepSeek", "1积分"),
    ("深度求索 R1", "deepseek-reasoner", "DeepSeek", "1积分"),
    ("deepseek-reasoner（备用）", "deepseek-reasoner", "DeepSeek", "1积分"),
    ("通义千问 Max", "qwen3-max", "Qwen", "1积分"),
    ("Kimi K2", "kimi-k2", "Moonshot", "1积分"),
    ("豆包 Pro", "doubao-pro", "Doubao", "1积分"),
    ("claude-opus-4-6（高消耗）", "claude-opus-4-6", "Claude", "1000000积分"),
    ("claude-sonnet-4-5", "claude-sonnet-4-5", "Claude", "50积分"),
    ("gpt-4.1-mini", "gpt-4.1-mini", "ChatGPT", "1积分"),
    ("Gemini 3 Pro", "gemini-3-pro", "Gemini", "10积分"),
)
TITLES = (
    "周报整理",
    "Rust borrow checker, explained slowly",
    "旅行计划：成都到重庆",
    "SQL 窗口函数 🪟",
    "Draft of the release notes",
    "论文润色（第二稿）",
    "Dockerfile for a small service",
    "面试题",
    "晚饭吃什么 🍜",
    "Regex for ISO dates",
)
QUESTIONS = (
    "把这段话改得正式一些：\n大家反馈还行。",
    "Explain lifetimes in Rust with one example.",
    "列一个三天的行程表。",
    "Write a function that merges two sorted lists.",
    "这段 SQL 为什么慢？",
)
ANSWERS = (
    "修改如下：\n\n> 整体反馈良好。",
    "A lifetime names how long a reference is valid.\n\n```rust\n"
    "fn longest<'a>(x: &'a str, y: &'a str) -> &'a str {\n    if x.len() > y.len() { x } else { y }\n}\n```",
    "| 天 | 上午 | 下午 |\n| --- | --- | --- |\n| 1 | 武侯祠 | 锦里 |\n| 2 | 熊猫基地 | 宽窄巷子 |\n| 3 | 动车去重庆 | 洪崖洞 |",
    "```python\ndef merge(a: list[int], b: list[int]) -> list[int]:\n    out = []\n    while a and b:\n"
    "        out.append((a if a[0] <= b[0] else b).pop(0))\n    return out + a + b\n```\n\n"
    "It runs in **O(n²)** because of `pop(0)`; use indexes for *O(n)*.",
    "1. 没有索引；\n2. `LIKE '%x%'` 不能走索引；\n3. 返回的行太多。\n\n- [ ] 加索引\n- [x] 看执行计划 😀",
)
XSS = "<script>alert('aurod')</script><img src=x onerror=\"alert(1)\"> [link](javascript:alert(2))"
