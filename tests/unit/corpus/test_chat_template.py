"""Where a chat template is found, and what is said of files that hold none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chameleon_data.corpus.chat_template import load_chat_template
from chameleon_data.errors import InputError


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.json").write_text("{}")
    return tmp_path / "tokenizer.json"


def settings_of(tokenizer: Path, settings: Any) -> None:
    tokenizer.with_name("tokenizer_config.json").write_text(settings if isinstance(settings, str) else json.dumps(settings))


@pytest.mark.parametrize("written", ["named", "plain", "beside", "given"])
def test_a_template_is_found_where_tokenizers_keep_it(tokenizer: Path, tmp_path: Path, written: str) -> None:
    """A file that the recipe names goes before one beside the tokenizer, and that before the settings."""
    templates = [{"name": "other", "template": "o"}, {"name": "default", "template": "named"}]
    settings_of(tokenizer, {
        "bos_token": "<s>", "eos_token": {"content": "</s>", "special": True}, "pad_token": None,
        "chat_template": templates if written == "named" else "plain",
    })  # fmt: skip
    (tmp_path / "own.jinja").write_text("given")
    if written in ("beside", "given"):
        tokenizer.with_name("chat_template.jinja").write_text("beside")
    found = load_chat_template(str(tmp_path / "own.jinja") if written == "given" else None, tokenizer)
    assert found.source == written
    assert found.special == (("bos_token", "<s>"), ("eos_token", "</s>"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('{"chat_template": ', "tokenizer_config.json: is damaged (Invalid JSON"),
        ([1], "tokenizer_config.json: is damaged (Input should be an object)"),
        ({"chat_template": 3}, "'chat_template' is not what a tokenizer saves there; save the tokenizer again"),
        ({"chat_template": [{"name": "default"}]}, "'chat_template' is not what"),
        ({"bos_token": ["<s>"]}, "'bos_token' is not what"),
        ({"chat_template": [{"name": "other", "template": "o"}]}, "there is no chat template; name a file of one"),
        ({"chat_template": "{% if"}, "is no Jinja template"),
    ],
)
def test_settings_without_a_template_are_refused_with_the_reason(tokenizer: Path, settings: Any, said: str) -> None:
    settings_of(tokenizer, settings)
    with pytest.raises(InputError) as refusal:
        load_chat_template(None, tokenizer)
    assert said in str(refusal.value)
    assert str(refusal.value).startswith("tokens.")
