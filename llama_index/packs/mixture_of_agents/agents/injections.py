"""Signs that a text tries to give orders to the model that reads it.

Tool output, log lines and other models' answers are read by models that cannot tell material from orders
by themselves. Everything of that kind is fenced (see `prompts`), whatever stands in it; here is what is
reported on top. It finds well-known forms, also under common disguises (see `disguises`), and no others: not
a cipher, not a language that is not listed. It takes harmless texts for attacks at times, and never deletes
anything: who reads the report decides.

Forms: OWASP LLM01:2025 "Prompt Injection"; Greshake et al., arXiv 2302.12173; Rehberger on markdown images
and Unicode tags, embracethered.com (2023, 2024).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from llama_index.packs.mixture_of_agents.agents.disguises import TAGS, shown, undisguised, visible
from llama_index.packs.mixture_of_agents.agents.results import Suspicion

LONGEST_READ = 200_000
"""Characters of a text that are looked at."""
_AROUND = 60

_FLAGS = re.IGNORECASE | re.MULTILINE


@dataclass(frozen=True)
class Form:
    """One well-known form of injection.

    Attributes:
        name: In a few words.
        pattern: What gives it away.
    """

    name: str
    pattern: re.Pattern[str]


def _form(name: str, *patterns: str) -> Form:
    return Form(name, re.compile("|".join(f"(?:{pattern})" for pattern in patterns), _FLAGS))


_EARLIER = r"(?:previous|prior|above|earlier|preceding|foregoing|existing|original|initial|system|your|all)"
_ORDERS = r"(?:instructions?|prompts?|rules?|directions?|guidelines?|orders?|commands?|context|messages?)"

FORMS = (
    _form(
        "tells to ignore instructions",
        rf"\b(?:ignore|disregard|forget|override|bypass|overlook|skip)\s+(?:\w+\s+){{0,4}}?{_EARLIER}"
        rf"\s+(?:\w+\s+){{0,3}}?{_ORDERS}\b",
        r"\bdo\s+not\s+(?:follow|obey)\s+(?:\w+\s+){0,3}?" + _ORDERS + r"\b",
        r"\b(?:ignor|vergiss|missachte)\w*\s+(?:\w+\s+){0,3}?(?:anweisungen|befehle|regeln)\b",
        r"\b(?:ignore[zr]?|oublie[zr]?)\s+(?:\w+\s+){0,4}?(?:instructions|consignes)\b",
        r"\b(?:ignora|olvida|ignore)\w*\s+(?:\w+\s+){0,4}?(?:instrucciones|instru[çc][õo]es|reglas|istruzioni)\b",
        r"\b(?:ignore|disregard|forget)\s+(?:everything|anything|all)\b[^.\n]{0,40}?"
        r"\b(?:above|before|previously|earlier|told|said)\b",
        r"\b(?:negeer|vergeet)\s+(?:\w+\s+){0,4}?(?:instructies|opdrachten|regels)\b",
        r"\b(?:z?ignoruj|zapomnij)\w*\s+(?:\w+\s+){0,4}?(?:instrukcj\w+|polece\w+)",
        r"\b(?:игнорируй|забудь|проигнорируй)\w*\s+(?:\w+\s+){0,4}?(?:инструкци|указани|правил|команд)",
        r"(?:忽略|無視|无视|忘记|忘記)[^。\n]{0,12}(?:指令|指示|说明|說明|规则|規則|提示)",
        r"(?:指示|命令|ルール|プロンプト)[^。\n]{0,10}(?:無視|忘れ)",
        r"(?:지시|명령|규칙|프롬프트)[^.\n]{0,12}(?:무시|잊)",
    ),
    _form(
        "gives new instructions",
        r"\b(?:new|updated|revised)\s+(?:system\s+)?(?:instructions?|task|objective|goal|prompt)\s*:",
        r"\bthe\s+(?:real|actual|true)\s+(?:instructions?|task|objective|goal|prompt|question)\s*(?::|is\b|are\b)",
        r"\byour\s+(?:new|only|real|actual)\s+(?:task|job|goal|objective|instructions?)\b",
        r"\binstead\s*,?\s+(?:you\s+(?:must|should|will)|respond|reply|answer|output|say|write)\b",
    ),
    _form(
        "gives another role",
        r"\byou\s+are\s+now\b",
        r"\bfrom\s+now\s+on\s*,?\s+you\b",
        r"\b(?:act|behave|respond)\s+as\s+(?:if\s+you\s+(?:are|were)|an?\s+unrestricted|DAN)\b",
        r"\b(?:pretend|imagine)\s+(?:that\s+)?(?:you\s+are|you're|to\s+be)\b",
        r"\b(?:developer|god|jailbreak|DAN|debug)\s+mode\b",
        r"\bsystem\s+override\b",
    ),
    _form(
        "imitates a system or assistant turn",
        r"<\s?\|?\s?(?:im_start|im_end|system|assistant|user|start_header_id|end_header_id|eot_id|endoftext)"
        r"\s?\|?\s?>",
        r"\[/?INST\]|\[/?SYSTEM_PROMPT\]|<<\s*/?SYS\s*>>|</?(?:system|assistant|instructions?|tool_result)>",
        r"<(?:start|end)_of_turn>|<function_calls>|<invoke\s+name\b",
        r"^ {0,2}#{1,4}\s*(?:system|instructions?|assistant|new\s+instructions?) {0,2}:? {0,2}$",
        r"^ {0,2}(?:system|assistant|developer|human) {0,2}(?:message|prompt|note)? {0,2}:\s+\S",
        r"^ {0,2}assistant {0,2}:\S",
        r"\\n\\n(?:human|system|assistant)\s*:",
    ),
    _form(
        "imitates the fence",
        r"^ {0,2}={3,}\s*(?:draft|material|task|request|result|output|notes|earlier)\b",
        r"(?<!=)={3,}\s*end\s+of\s+(?:draft|material|task|request|result|output|notes)\b",
        r"\b(?:end|close)\s+of\s+(?:the\s+)?(?:untrusted|material|quoted|user)\s+(?:data|text|input|content)\b",
    ),
    _form(
        "asks for the prompt or for secrets",
        r"\b(?:reveal|print|show|repeat|output|leak|disclose|display|send|tell\s+me)\s+(?:\w+\s+){0,4}?"
        r"(?:system\s+prompt|hidden\s+(?:prompt|instructions)|initial\s+(?:prompt|instructions)|api[\s_-]?keys?"
        r"|passwords?|credentials|secrets?|environment\s+variables)\b",
    ),
    _form(
        "asks to conceal",
        r"\b(?:do\s+not|don't|never|without)\s+(?:tell|telling|mention|mentioning|inform|informing|reveal"
        r"|revealing|alert|alerting|notify|notifying|report|reporting)\b(?:\s+\w+){0,4}?\s+"
        r"(?:users?|anyone|humans?|operators?|analysts?|administrators?|them)\b",
        r"\b(?:do\s+not|don't|never)\s+(?:mention|include|report|list|name)\b[^.\n]{0,60}?\bin\s+(?:your|the)\s+"
        r"(?:report|answer|summary|response|findings)\b",
    ),
    _form(
        "sends data away in a link or picture",
        r"!\[[^\]\n]{0,200}\]\(\s*https?://[^)\s]{1,500}[?&/][^)\s]{0,300}(?:=|\{|%7B)",
        r"<img\b[^>\n]{0,300}\bsrc\s*=\s*[\"']?https?://[^>\s]{1,500}[?&]",
        r"\b(?:append|add|include|embed|encode|put)\s+(?:\w+\s+){0,6}?(?:to|in|into|as)\s+(?:\w+\s+){0,3}?"
        r"(?:url|link|query\s+string|image)\b",
    ),
    _form(
        "asks to decode and follow",
        r"\b(?:decode|decrypt|deobfuscate|rot13|unbase64|base64\s+-d)\b[^\n]{0,120}?"
        r"(?:\band\b|\bthen\b)[^\n]{0,30}?\b(?:follow|execute|obey|run|perform|do|act)\b",
        r"\b(?:decode|follow|execute)\b[^\n]{0,80}?[A-Za-z0-9+/]{40,}={0,2}",
    ),
    _form(
        "orders a tool or command",
        r"\b(?:call|invoke|execute|run)\s+(?:the\s+)?[`'\"]?\w{2,40}[`'\"]?\s+(?:tool|function|plugin)\b",
        r"\b(?:curl|wget|iwr|invoke-webrequest)\b[^\n|]{1,200}\|\s*(?:ba|z|da)?sh\b",
        r"^ {0,2}(?:action|tool_call|function_call)\s*:\s*\S",
        r"<tool_call>|\"tool_calls?\"\s*:",
        r"\{\s*\"(?:tool|function|action|name)\"\s*:\s*\"[^\"\n]{1,80}\"\s*,\s*"
        r"\"(?:arguments|args|parameters|input|action_input)\"\s*:",
    ),
    _form(
        "claims authority over the model",
        r"\b(?:attention|important|urgent|notice|warning|note|message)\b[^\n]{0,20}?\b(?:to|for)?\s*(?:all\s+)?"
        r"(?:ai|llm|language\s+models?|assistants?|chatbots?|agents?)\b[^\n]{0,60}?\b(?:must|should|shall|please"
        r"|have\s+to)\b",
        r"\b(?:important|urgent|attention)\b[^\n]{0,40}:\s*do\s+not\b",
        r"\b(?:dear|hello|hey|hi)\s+(?:ai|llm|language\s+model|assistant|chatbot)\b",
        r"\bif\s+you\s+are\s+an?\s+(?:ai|llm|language\s+model|assistant|chatbot|agent)\b",
        r"\b(?:as|this\s+is)\s+(?:the|your)\s+(?:administrator|developer|system\s+administrator|creator|owner|openai"
        r"|anthropic)\b",
    ),
    _form(
        "hides text in markup",
        r"<!--[^>]{0,400}?\b(?:ignore|instruction|assistant|model|you\s+must|prompt)\b",
        r"(?:display\s*:\s*none|font-size\s*:\s*0|visibility\s*:\s*hidden|color\s*:\s*(?:white|#fff(?:fff)?))\b",
    ),
    _form(
        "dictates the verdict",
        r"\b(?:conclude|report|state|say|answer|respond)\b[^\n]{0,20}?\bthat\s+(?:\w+\s+){1,4}?(?:is|are|was|were)"
        r"\s+(?:\w+\s+){0,2}?(?:benign|harmless|safe|false\s+positives?|legitimate|authori[sz]ed|clean)\b",
        r"\bconclude\s+that\s+(?:no\b|nothing\b|there\s+(?:is|was)\s+no)",
        r"\breport\s+no\s+(?:findings|incident|attack|lateral)\b",
        r"\b(?:classify|mark|label)\s+(?:\w+\s+){1,4}?as\s+(?:benign|harmless|safe|legitimate|clean)\b",
    ),
)
"""Looked for in order; each is reported once for a text."""


def suspicions(text: str, where: str) -> list[Suspicion]:
    """What in a text looks as if it gave orders to a model.

    Args:
        text: Any text of other people's, models' or tools'.
        where: Whose it is, for the report: "the output of search_logs in task t1".
    """
    plain = shown(text[:LONGEST_READ])
    readings = [plain, *undisguised(plain)]
    found = [
        Suspicion(where=where, form=form.name, excerpt=_excerpt(*match))
        for form in FORMS
        if (match := _first(form, readings))
    ]
    if tags := TAGS.findall(text[:LONGEST_READ]):
        said = " ".join(map(visible, tags[:5]))
        found.append(Suspicion(where=where, form="hides text in invisible characters", excerpt=said[:200]))
    return found


def all_suspicions(texts: Iterable[tuple[str, str]]) -> list[Suspicion]:
    """What is suspicious in several texts, each with where it stands; the same finding once."""
    found = (suspicion for where, text in texts for suspicion in suspicions(text, where))
    return list(dict.fromkeys(found))


def _first(form: Form, readings: Iterable[str]) -> tuple[str, re.Match[str]] | None:
    """The first reading of a text that has the form, and the place."""
    return next(((text, match) for text in readings if (match := form.pattern.search(text))), None)


def _excerpt(text: str, match: re.Match[str]) -> str:
    begin, end = max(0, match.start() - _AROUND), min(len(text), match.end() + _AROUND)
    return " ".join(text[begin : min(end, begin + 300)].split())
