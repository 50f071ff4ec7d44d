"""Chat templates: a conversation as the text that a model is trained on, and which of it the trainer learns from.

A template is Jinja, in the sandbox and with the functions that `transformers` gives it. Parts inside `{% generation %}` are the
assistant's. A template without that mark falls back on growth: an assistant's turn is what the rendering grows by, behind the
prompt for it. Where the rendering of the first turns is not the beginning of the whole, the template is refused.
`strftime_now` is not defined, since a build is the same on any day; templates that ask for it have a date for that case.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from chameleon_data.corpus.conversations import ASSISTANT, ChatMessage
from chameleon_data.errors import InputError, Sentences, explain_errno, explaining, first_line

GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


class TemplateRefusesError(ValueError):
    """The template raises an error at a conversation."""


@dataclass(frozen=True)
class ChatTemplate:
    """A template and the names that it may use."""

    source: str
    """Jinja."""
    special: tuple[tuple[str, str], ...]
    """Key of tokenizer_config.json -> token."""

    def render(self, messages: Sequence[ChatMessage], tools: Any) -> str:
        """The text of a conversation. Raises TemplateRefusesError."""
        return self._render(messages, tools)[0]

    def render_spans(self, messages: Sequence[ChatMessage], tools: Any) -> tuple[str, list[tuple[int, int]]]:
        """The text, and the stretches of it, in characters, that are the assistant's.

        Raises TemplateRefusesError, and InputError where the template does not tell them.
        """
        if GENERATION.search(self.source):
            return self._render(messages, tools)
        whole, spans = self.render(messages, tools), []
        for number, message in enumerate(messages):
            if message["role"] != ASSISTANT:
                continue
            before = self._render(messages[:number], tools, prompt=True)[0] if number else ""
            after = self._render(messages[: number + 1], tools)[0]
            if not (whole.startswith(after) and after.startswith(before)):
                raise InputError(
                    "tokens.template: it has no {% generation %}, and its rendering of the first turns is not the beginning of "
                    "the whole, so what is the assistant's cannot be told; mark that in it, or use 'tokens: {count: all}'"
                )
            spans.append((len(before), len(after)))
        return whole, spans

    def _render(self, messages: Sequence[ChatMessage], tools: Any, prompt: bool = False) -> tuple[str, list[tuple[int, int]]]:
        import jinja2

        template, tracked = compile_template(self.source)
        blocks: list[str] = []
        spans: list[tuple[int, int]] = []
        tracked[:] = [blocks, spans]
        names = dict(self.special)
        try:
            for block in template.generate(
                messages=list(messages), tools=tools, documents=None, add_generation_prompt=prompt, **names
            ):
                blocks.append(block)
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise TemplateRefusesError(first_line(error)) from None
        return "".join(blocks), spans


@functools.lru_cache(maxsize=64)
def compile_template(source: str, key: str = "tokens.template") -> tuple[Any, list[Any]]:
    """The template, and a list that takes the blocks so far and the spans of the rendering that is under way.

    Raises InputError, which names the `key`, where the source is no Jinja.
    """
    import jinja2
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    under_way: list[Any] = []

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012  (Jinja reads it)

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_note"), [], [], body).set_lineno(line)

        def _note(self, caller: Any) -> str:
            text: str = caller()
            blocks, spans = under_way
            start = sum(map(len, blocks))
            spans.append((start, start + len(text)))
            return text

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(
        value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = refuse
    with explaining(key, {jinja2.TemplateError: lambda error: f"is no Jinja template ({first_line(error)}); mend it"}):
        return environment.from_string(source), under_way


class _Token(BaseModel):
    content: str


class _NamedTemplate(BaseModel):
    name: str
    template: str


class _TokenizerConfig(BaseModel):
    """What templates take from tokenizer_config.json."""

    bos_token: str | _Token | None = None
    eos_token: str | _Token | None = None
    unk_token: str | _Token | None = None
    sep_token: str | _Token | None = None
    pad_token: str | _Token | None = None
    cls_token: str | _Token | None = None
    mask_token: str | _Token | None = None
    chat_template: str | list[_NamedTemplate] | None = None

    def special_tokens(self) -> tuple[tuple[str, str], ...]:
        """(key, token) of each special token that there is."""
        named = ((key, getattr(self, key)) for key in _TokenizerConfig.model_fields if key.endswith("_token"))
        return tuple((key, token.content if isinstance(token, _Token) else token) for key, token in named if token is not None)

    def default_template(self) -> str | None:
        if isinstance(self.chat_template, list):
            return next((each.template for each in self.chat_template if each.name == "default"), None)
        return self.chat_template


def load_chat_template(template: str | None, tokenizer_file: Path) -> ChatTemplate:
    """The template of a file, or else the one beside a tokenizer.json. Raises InputError where there is none."""
    settings, beside = (tokenizer_file.with_name(name) for name in ("tokenizer_config.json", "chat_template.jinja"))
    config = _TokenizerConfig()
    if settings.is_file():
        reasons: Sentences = {OSError: explain_errno, ValidationError: _explain_settings}
        with explaining(f"tokens.tokenizer: {settings}", reasons):
            config = _TokenizerConfig.model_validate_json(settings.read_bytes())
    source = config.default_template()
    if file := Path(template) if template is not None else beside if beside.is_file() else None:
        with explaining(f"tokens.template: {file}", {OSError: explain_errno, UnicodeDecodeError: "is not text in UTF-8"}):
            source = file.read_text(encoding="utf-8")
    if source is None:
        raise InputError(f"tokens.template: beside {tokenizer_file} there is no chat template; name a file of one")
    found = ChatTemplate(source, config.special_tokens())
    compile_template(source)
    return found


def _explain_settings(error: ValidationError) -> str:
    fault = error.errors()[0]
    what = f"{fault['loc'][0]!r} is not what a tokenizer saves there" if fault["loc"] else f"is damaged ({fault['msg']})"
    return f"{what}; save the tokenizer again"
