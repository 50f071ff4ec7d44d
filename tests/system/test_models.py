"""Embedding by real and random models: vectors, windows, layers, and models that could run code."""

import json
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest

from chameleon_data.corpus.model_files import find_packaged_model
from chameleon_data.errors import DefectError, InputError
from chameleon_data.recipe import Embed
from chameleon_data.weights.embedder import find_kind, load_embedder, load_model
from chameleon_data.weights.encode_texts import encode_texts
from tests.support.static_models import save_static_model

WORDS = ["the", "of", "and", "river", "model", "leverage", "ridge", "zwölf", "漢字", "x", "=", "y", "+", "1", "domain", "token"]


def words(count, seed):
    return " ".join(random.Random(seed).choices(WORDS, k=count))


TEXTS = [words(count, seed) for seed, count in enumerate([3, 90, 12, 1, 40, 90, 7, 25])]


@pytest.fixture(scope="module")
def minilm():
    return load_embedder(Embed(window=64))


@pytest.fixture(scope="module")
def model(minilm):
    return load_model(minilm)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Folder of a random two-layer encoder with a prompt that is left out of the mean, and normalisation."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    folder, source = tmp_path_factory.mktemp("models"), find_packaged_model("all-MiniLM-L6-v2")
    assert source is not None
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(**sizes, max_position_embeddings=40)
    BertModel(config).save_pretrained(folder / "encoder")
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(source / name, folder / "encoder")
    encoder = Transformer(str(folder / "encoder"), max_seq_length=40)
    modules = [encoder, Pooling(16, "mean", include_prompt=False), Normalize()]
    model = SentenceTransformer(modules=modules, device="cpu", prompts={"say": "a prompt : "}, default_prompt_name="say")
    model.save(str(folder / "tiny"), create_model_card=False)
    return folder / "tiny"


def copy(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def test_vectors_are_those_of_sentence_transformers(model):
    wanted = model.encode(TEXTS, show_progress_bar=False)
    found = encode_texts(model, TEXTS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=2e-6)


@pytest.mark.parametrize("side", ["right", "left"])
def test_prompts_and_padding_are_as_in_sentence_transformers(tiny, side):
    model = load_model.__wrapped__(load_embedder(Embed(model=str(tiny), window=32)))
    model.tokenizer.padding_side = side
    np.testing.assert_allclose(encode_texts(model, TEXTS), model.encode(TEXTS, show_progress_bar=False), atol=2e-6)
    model.default_prompt_name = None
    unprompted = model.encode(TEXTS, show_progress_bar=False)
    np.testing.assert_allclose(encode_texts(model, TEXTS), unprompted, atol=2e-6)
    model.default_prompt_name = "say"
    assert np.abs(encode_texts(model, TEXTS) - unprompted).max() > 1e-3


def test_static_vectors_need_no_batches(tmp_path):
    """The mean over the first tokens of a text, as many as the window holds, from a folder that was saved."""
    weights = np.random.default_rng(0).standard_normal((len(WORDS) + 1, 8)).astype(np.float32)
    save_static_model(tmp_path, WORDS, weights)
    for window in (512, 8):
        found = load_embedder(Embed(model=str(tmp_path), window=window)).encode([[text] for text in TEXTS])
        wanted = [np.mean([weights[WORDS.index(w)] for w in text.split()[:window]], axis=0) for text in TEXTS]
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_the_kind_of_a_model_is_read_from_its_files(minilm, tiny, tmp_path):
    """Of static vectors, whose folders come from any release, and of a model that does not say what it is."""
    save_static_model(tmp_path, WORDS, np.ones((len(WORDS) + 1, 8), np.float32))
    static = load_embedder(Embed(model=str(tmp_path)))
    assert [find_kind(one) for one in (minilm, static)] == ["small transformer", "static"]
    modules = json.loads((tmp_path / "modules.json").read_text())
    (tmp_path / "modules.json").write_text(json.dumps([{**modules[0], "type": "sentence_transformers.models.StaticEmbedding"}]))
    assert find_kind(static) == "static"
    (tmp_path / "modules.json").write_text("[]")
    assert [find_kind(one) for one in (static, load_embedder(Embed(model=str(tiny), window=32)))] == ["other", "other"]
    assert find_kind(load_embedder(Embed(column="vector"))) == find_kind(None) == "none"


def test_a_document_is_the_mean_of_its_windows(tiny):
    embedder = load_embedder(Embed(model=str(tiny), window=16))
    single = embedder.encode([[t] for t in TEXTS])
    found = embedder.encode([TEXTS[:3], TEXTS[3:4], TEXTS[4:]])
    np.testing.assert_allclose(found, [single[:3].mean(0), single[3], single[4:].mean(0)], atol=1e-6)
    assert embedder.encode([]).shape == (0, 16)
    with pytest.raises(DefectError, match="without windows"):
        embedder.encode([["a"], []])


def test_the_same_windows_give_the_same_bits(minilm, model):
    first = minilm.encode([[t] for t in TEXTS])
    assert np.array_equal(first, minilm.encode([[t] for t in TEXTS]))


def test_vectors_come_back_in_the_order_of_the_texts(minilm):
    order = random.Random(0).sample(range(len(TEXTS)), len(TEXTS))
    found = minilm.encode([[TEXTS[i]] for i in order])
    np.testing.assert_allclose(found, minilm.encode([[t] for t in TEXTS])[order], atol=2e-6)


def test_only_the_first_window_tokens_count(minilm, model):
    """A window of 8: 6 tokens of text between the two special ones."""
    embedder = load_embedder(Embed(window=8))
    assert embedder.fingerprint != minilm.fingerprint
    short = load_model.__wrapped__(embedder)
    text = words(60, 0)
    start = model.tokenizer.decode(model.tokenizer(text, add_special_tokens=False)["input_ids"][:6])
    np.testing.assert_allclose(encode_texts(short, [text]), encode_texts(model, [start]), atol=2e-6)
    assert np.abs(encode_texts(short, [text]) - encode_texts(model, [text])).max() > 1e-3


def test_is_sensible(minilm):
    """The model is the trained one: like goes with like."""
    a, b, c = minilm.encode([["def f(x): return x + 1"], ["lambda y: y * 2  # python"], ["The court dismissed the appeal."]])
    assert a @ b > a @ c + 0.1
    assert b @ a > b @ c + 0.1


def test_other_files_than_the_driver_saw_are_refused(tiny):
    embedder = replace(load_embedder(Embed(model=str(tiny), window=16)), fingerprint="0" * 64)
    with pytest.raises(InputError, match="differ between machines"):
        embedder.encode([["a"]])


OWN = "from pathlib import Path\nPath({owned!r}).touch()\nclass M: pass\nclass C: pass\n"


@pytest.mark.parametrize("key", ["model", "causal_lm"])
@pytest.mark.parametrize("kind", ["", "evil"])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_that_a_model_brings_does_not_run(tiny, tmp_path, key, kind, file):
    """Where the model's type is known its code is not needed; where it is not, the model is refused."""
    folder = copy(tiny, tmp_path)
    (folder / "own.py").write_text(OWN.format(owned=str(tmp_path / "owned")))
    settings = json.loads((folder / file).read_text())
    settings["auto_map"] = {"AutoModel": "own.M", "AutoConfig": "own.C", "AutoTokenizer": ["own.M", "own.M"]}
    (folder / file).write_text(json.dumps(settings | ({"model_type": kind} if kind and file == "config.json" else {})))
    embedder = load_embedder(Embed(model=str(folder), window=32) if key == "model" else Embed(causal_lm=str(folder), window=32))
    if kind and file == "config.json":
        with pytest.raises(InputError, match=rf"embed\.{key}: .* cannot be loaded: .*custom code"):
            embedder.encode([["a text"]])
    else:
        assert embedder.encode([["a text"]]).shape == (1, 16)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("module", ["own.M", "os.system", "subprocess.Popen"])
def test_modules_of_others_are_refused(tiny, tmp_path, module):
    folder = copy(tiny, tmp_path)
    (folder / "own.py").write_text(OWN.format(owned=str(tmp_path / "owned")))
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = module
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match=r"embed\.model: .* cannot be loaded: .*not part of Sentence Transformers"):
        load_embedder(Embed(model=str(folder), window=32)).encode([["a text"]])
    assert not (tmp_path / "owned").exists()


HUGE = json.dumps({"x": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 2**62]}}).encode()


def headed(length: int, head: bytes) -> bytes:
    return length.to_bytes(8, "little") + head


@pytest.mark.parametrize(
    "body",
    [b"", headed(2**60, b"{}"), headed(10**8, b"{"), headed(10**6, b"[" * 10**6), headed(len(HUGE), HUGE)],
    ids=["empty", "a head of 2^60 bytes", "a head cut off", "deep", "a tensor of 2^80 numbers"],
)  # fmt: skip
def test_weights_whose_head_lies_are_refused(tiny, tmp_path, body):
    folder = copy(tiny, tmp_path)
    (folder / "model.safetensors").write_bytes(body)
    with pytest.raises(InputError, match=r"embed\.model: .* cannot be loaded"):
        load_embedder(Embed(model=str(folder), window=32)).encode([["a text"]])


def test_code_beside_the_model_is_refused(tiny, tmp_path):
    folder = copy(tiny, tmp_path)
    (folder / "modelling.py").write_text("raise SystemExit('ran')")
    modules = folder / "modules.json"
    kind = "sentence_transformers.sentence_transformer.modules.pooling.Pooling"
    assert kind in modules.read_text()
    modules.write_text(modules.read_text().replace(kind, "modelling.Pooling"))
    with pytest.raises(InputError, match=r"cannot be loaded: .*third-party code"):
        load_embedder(Embed(model=str(folder), window=16)).encode([["a"]])


def test_models_that_give_no_numbers_are_refused(tiny, tmp_path):
    from safetensors.numpy import load_file, save_file

    folder = copy(tiny, tmp_path)
    weights = load_file(folder / "model.safetensors")
    save_file({k: np.full_like(v, np.nan) for k, v in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="2 vectors of 2 that are not finite"):
        load_embedder(Embed(model=str(folder), window=16)).encode([["a"], ["b"]])


def test_windows_longer_than_the_model_reads_are_refused(tiny):
    with pytest.raises(InputError, match=r"embed\.window: .* reads 40 tokens at once, not 41; use 40"):
        load_embedder(Embed(model=str(tiny), window=41)).encode([["a"]])


# Language models


@pytest.fixture(scope="module", params=["llama", "gpt2", "bert"])
def language_model(request, tmp_path_factory):
    """Folder of a random checkpoint of four blocks with a word tokenizer; llama's and gpt2's have no padding token."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp(request.param)
    small = {"vocab_size": len(WORDS) + 2, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
    if request.param == "llama":
        model = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(**small, intermediate_size=32, num_key_value_heads=1, max_position_embeddings=64)
        )
    elif request.param == "gpt2":
        sizes = {"vocab_size": len(WORDS) + 2, "n_embd": 16, "n_layer": 4, "n_head": 2, "n_positions": 64}
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes))
    else:
        model = transformers.BertForMaskedLM(transformers.BertConfig(**small, intermediate_size=32, max_position_embeddings=64))
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["[UNK]", "</s>", *WORDS])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    pad = {"pad_token": "</s>"} if request.param == "bert" else {}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", **pad).save_pretrained(folder)
    return folder


def naive(folder, texts, layer):
    """One text at a time, all hidden states: what the fast path must equal."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder).eval()
    found = []
    for text in texts:
        ids = [2 + WORDS.index(word) for word in text.split()[:32]]
        with torch.no_grad():
            states = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
        found.append(states[layer][0].mean(dim=0).numpy())
    return np.stack(found)


@pytest.mark.parametrize(("layer", "index"), [("middle", 2), (1, 1), (3, 3)])
def test_a_layer_of_a_language_model(language_model, layer, index):
    embedder = load_embedder(Embed(causal_lm=str(language_model), layer=layer, window=32))
    wanted = naive(language_model, TEXTS, index)
    np.testing.assert_allclose(embedder.encode([[t] for t in TEXTS]), wanted, atol=2e-6)
    np.testing.assert_allclose(embedder.encode([[TEXTS[0]]]), wanted[:1], atol=2e-6)  # alone as in company
    assert np.abs(wanted - naive(language_model, TEXTS, 4)).max() > 1e-3
    assert embedder.encode([]).shape == (0, 16)


def test_blocks_above_the_layer_are_not_computed(language_model, monkeypatch):
    model = load_model.__wrapped__(load_embedder(Embed(causal_lm=str(language_model), window=32)))
    import torch

    stack = next(m for m in model.transformer.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 4)
    for block in stack[2:]:
        monkeypatch.setattr(block, "forward", lambda *_, **__: pytest.fail("a block above the layer ran"))
    assert encode_texts(model, TEXTS).shape == (len(TEXTS), 16)


@pytest.mark.parametrize(
    ("asked", "says"),
    [({"layer": 5}, r"embed\.layer: .* has 4 layers, not 5"), ({"window": 65}, r"embed\.window: .* reads 64 tokens at once")],
)
def test_what_a_language_model_lacks_is_refused(language_model, asked, says):
    with pytest.raises(InputError, match=says):
        load_embedder(Embed(causal_lm=str(language_model), **{"window": 32, **asked})).encode([["the river"]])


def test_a_text_without_tokens_is_refused(language_model):
    embedder = load_embedder(Embed(causal_lm=str(language_model), window=32))
    with pytest.raises(InputError, match="sees no token"):
        embedder.encode([["the"], [" "]])


def test_encoder_decoders_are_refused(tmp_path, language_model):
    import transformers

    config = transformers.T5Config(vocab_size=20, d_model=16, d_ff=32, num_layers=2, num_heads=2, d_kv=8)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(language_model / name, tmp_path)
    with pytest.raises(InputError, match="not one stack of blocks"):
        load_embedder(Embed(causal_lm=str(tmp_path), window=32)).encode([["the"]])
