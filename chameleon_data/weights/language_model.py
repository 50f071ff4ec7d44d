"""A layer of a causal or masked language model as an embedder, as the paper embeds with the middle layer of a small GPT-2.

    vector of a text = 1/t Σ h_l(token),   t its real tokens, padding left out, h_l the output of block l

Blocks above l are not computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from chameleon_data.errors import DefectError, InputError


@dataclass(frozen=True)
class LanguageModel:
    """A checkpoint up to one of its blocks, with the members of a SentenceTransformer that `encode_texts` uses."""

    transformer: Any
    block: Any
    """Its output is taken, before any norm that follows the last block."""
    tokenizer: Any
    window: int
    """Tokens read at once; what is longer is cut off."""
    prompts: ClassVar[dict[str, str]] = {}
    default_prompt_name: ClassVar[None] = None

    @property
    def device(self) -> Any:
        return self.transformer.device

    def get_embedding_dimension(self) -> int:
        return int(self.transformer.config.get_text_config().hidden_size)

    def preprocess(self, texts: list[str], prompt: str | None = None) -> dict[str, Any]:
        """`input_ids` and `attention_mask`, (texts, longest), with the special tokens that the tokenizer adds."""
        features: dict[str, Any] = self.tokenizer(
            texts, truncation=True, max_length=self.window, padding=True, return_tensors="pt", return_token_type_ids=False
        )
        if not features["attention_mask"].any(dim=1).all():
            raise InputError("embed.causal_lm: its tokenizer sees no token in a document; use another model")
        return features

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """(texts, dimensions) means over the tokens that the attention mask holds."""

        class ReachedError(Exception):
            """Ends the forward pass after the block."""

        def stop(_module: Any, _arguments: Any, output: Any) -> None:
            raise ReachedError(output[0] if isinstance(output, tuple) else output)

        handle = self.block.register_forward_hook(stop)
        try:
            self.transformer(**features)
            raise DefectError("the language model ran without reaching the block whose output is taken")
        except ReachedError as reached:
            (hidden,) = reached.args
        finally:
            handle.remove()
        hidden = hidden.float()
        mask = features["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        return {"sentence_embedding": (hidden * mask).sum(dim=1) / mask.sum(dim=1)}


def load_language_model(
    folder: Path, device: str, named: str, layer: int | Literal["middle"], window: int, dtype: Any
) -> LanguageModel:
    """The checkpoint in a folder, on a device, in a dtype of torch. `named` is the recipe's name of it, for messages.

    Raises InputError where it has no such layer or reads fewer tokens.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    safe: Any = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(str(folder), padding_side="right", truncation_side="right", **safe)
    if tokenizer.pad_token is None:  # any token will do: the attention mask hides it
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    transformer = AutoModel.from_pretrained(str(folder), use_safetensors=True, dtype=dtype, **safe)
    config = transformer.config.get_text_config()
    count = config.num_hidden_layers
    stacks = [m for m in transformer.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count]
    if not stacks or config.is_encoder_decoder:
        raise InputError(
            f"embed.causal_lm: {named} ({config.model_type}) is not one stack of blocks; use a causal or masked model"
        )
    number = max(1, count // 2) if layer == "middle" else layer
    if number > count:
        raise InputError(f"embed.layer: {named} has {count} layers, not {number}; write 1 to {count}, or middle")
    check_window(named, window, getattr(config, "max_position_embeddings", None))
    config.use_cache = False
    return LanguageModel(transformer.to(device).eval(), stacks[0][number - 1], tokenizer, window)


def check_window(named: str, window: int, *limits: int | None) -> None:
    """Raises InputError where a model with these limits does not read a whole window."""
    longest = min((limit for limit in limits if limit), default=window)
    if window > longest:
        raise InputError(f"embed.window: {named} reads {longest} tokens at once, not {window}; use {longest}")
