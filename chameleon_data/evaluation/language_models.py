"""The small language models that judge: architectures of transformers, with weights of our own, and the loss of each token.

    decoder            predicts each token of a window from those before it: llama, gpt2
    encoder_decoder    reads the first half of a window and predicts the second: t5
    masked             predicts 15 % of a window's tokens from the others: bert. Its bits are no code length, so they compare with
                       themselves alone

Only configurations are taken from transformers; no weights are loaded from anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chameleon_data.errors import InputError
from chameleon_data.evaluation.pool import PADDING
from chameleon_data.evaluation.vocabulary import END, TO_GUESS
from chameleon_data.hashing import key64
from chameleon_data.recipe import JUDGE_OF_FAMILY, Family, Judge, ModelShape

if TYPE_CHECKING:
    import torch

HEAD_WIDTH = 32
"""Numbers of an attention head, at least."""
HIDDEN_SHARE = 0.15
"""Share of the tokens that a masked model is to guess, as in BERT (Devlin et al. 2019)."""
IGNORED = -100
"""Label of a token that is not predicted."""


def choose_family(judge: Judge, shape: ModelShape) -> Family:
    """The architecture. Raises InputError for one that cannot be this judge."""
    fitting: list[Family] = [family for family, of in JUDGE_OF_FAMILY.items() if of == judge]  # type: ignore[misc]
    if shape.family == "auto":
        return fitting[0]
    if shape.family not in fitting:
        raise InputError(
            f"evaluate.model.family: {shape.family} is a {JUDGE_OF_FAMILY[shape.family]} model, and the judge is {judge}; write "
            f"{' or '.join(fitting)}, or auto"
        )
    return shape.family


@dataclass(frozen=True)
class TokenLosses:
    """What a model pays for a batch of windows."""

    nats: torch.Tensor
    """(windows, predicted) of each token, 0 where none is predicted."""
    labels: torch.Tensor
    """(windows, predicted) ids, IGNORED where none is predicted."""


def make_model(family: Family, shape: ModelShape, vocabulary: int, seed: int) -> Any:
    """A model whose initial weights follow from the seed alone."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    heads = max(1, shape.width // HEAD_WIDTH)
    inner, length = 4 * shape.width, shape.context
    common: dict[str, Any] = {"vocab_size": vocabulary, "bos_token_id": END, "eos_token_id": END, "pad_token_id": END}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key64(seed, "weights") % 2**63)
        if family == "llama":
            config: Any = transformers.LlamaConfig(
                **common, hidden_size=shape.width, intermediate_size=inner * 2 // 3, num_hidden_layers=shape.layers,
                num_attention_heads=heads, max_position_embeddings=length, tie_word_embeddings=True, use_cache=False,
            )  # fmt: skip
            return transformers.LlamaForCausalLM(config)
        if family == "gpt2":
            config = transformers.GPT2Config(
                **common, n_embd=shape.width, n_layer=shape.layers, n_head=heads, n_positions=length, n_inner=inner,
                resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
            )  # fmt: skip
            return transformers.GPT2LMHeadModel(config)
        if family == "t5":
            config = transformers.T5Config(
                **common, d_model=shape.width, d_kv=shape.width // heads, d_ff=inner, num_layers=shape.layers, num_heads=heads,
                dropout_rate=0.0, use_cache=False,
            )  # fmt: skip
            return transformers.T5ForConditionalGeneration(config)
        config = transformers.BertConfig(
            **common, hidden_size=shape.width, num_hidden_layers=shape.layers, num_attention_heads=heads, intermediate_size=inner,
            max_position_embeddings=length, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, type_vocab_size=1,
        )  # fmt: skip
        return transformers.BertForMaskedLM(config)


def token_losses(model: Any, judge: Judge, ids: torch.Tensor, hidden: torch.Tensor) -> TokenLosses:
    """The loss of each token that the judge predicts of (windows, context) ids, which PADDING ends.

    `hidden`: (windows, context) which tokens a masked model is to guess; of no use to others.
    """
    real = ids != PADDING
    filled = ids.masked_fill(~real, END)
    labels = ids.masked_fill(~real, IGNORED)
    if judge == "decoder":
        logits = model(input_ids=filled, attention_mask=None).logits[:, :-1]
        labels = labels[:, 1:]
    elif judge == "encoder_decoder":
        half = ids.shape[1] // 2
        labels = labels[:, half:]
        start = filled.new_full((len(ids), 1), END)
        before = filled[:, half:-1]
        given = {"decoder_input_ids": _joined(start, before), "attention_mask": real[:, :half].long()}
        logits = model(input_ids=filled[:, :half], **given).logits
    else:
        guessed = hidden & real
        labels = labels.masked_fill(~guessed, IGNORED)
        logits = model(input_ids=filled.masked_fill(guessed, TO_GUESS), attention_mask=real.long()).logits
    nats = _cross_entropy(logits.float(), labels)
    return TokenLosses(nats, labels)


def _joined(start: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.cat([start, rest], dim=1)


def _cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    import torch.nn.functional as functional

    flat = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none")
    return flat.view(labels.shape)
