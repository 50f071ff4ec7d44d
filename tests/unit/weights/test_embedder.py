"""Which embedder a recipe asks for: found, hashed and named without loading it."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys

import pytest

from chameleon_data.errors import InputError
from chameleon_data.recipe import Embed
from chameleon_data.weights.embedder import in_precision, load_embedder
from tests.support.paths import ROOT


@pytest.fixture
def folder(tmp_path):
    """The files of a model, with contents that nobody reads."""
    made = tmp_path / "model"
    (made / "1_Pooling").mkdir(parents=True)
    (made / "modules.json").write_text("[]")
    (made / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(b"weights")
    return made


def test_travels_as_a_specification(folder):
    embedder = load_embedder(Embed(model=str(folder)))
    sent = pickle.dumps(embedder)
    assert len(sent) < 500
    assert pickle.loads(sent) == embedder


def test_the_fingerprint_is_of_the_files_wherever_they_lie(folder, tmp_path):
    here = load_embedder(Embed(model=str(folder), window=16))
    moved = shutil.copytree(folder, tmp_path / "copy")
    (moved / "README.md").write_text("another card")
    assert load_embedder(Embed(model=str(moved), window=16)).fingerprint == here.fingerprint
    pooling = moved / "1_Pooling" / "config.json"
    pooling.write_text(pooling.read_text().replace("mean", "max"))
    assert load_embedder(Embed(model=str(moved), window=16)).fingerprint != here.fingerprint
    shutil.copy(folder / "1_Pooling" / "config.json", pooling)
    weights = moved / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert load_embedder(Embed(model=str(moved), window=16)).fingerprint != here.fingerprint


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="is pickled and could run code"):
        load_embedder(Embed(model=str(folder)))


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        load_embedder(Embed(model=str(tmp_path / "missing")))
    with pytest.raises(InputError, match="is no model"):
        load_embedder(Embed(model=str(tmp_path)))
    with pytest.raises(InputError, match="has no revisions"):
        load_embedder(Embed(model=str(tmp_path), revision="main"))


def test_hub_models_come_from_the_cache_by_commit(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"embed\.model: some/model .*the hub is out of reach; download it once"):
        load_embedder(Embed(model="some/model"))
    (tmp_path / "models--our--encoder").mkdir()
    for typo, meant in (("our/encodr", "our/encoder"), ("all-MiniLM-L6-v3", "all-MiniLM-L6-v2"), ("encodr", "encoder")):
        with pytest.raises(InputError, match=f"{typo} is neither .*; did you mean {meant}?"):
            load_embedder(Embed(model=typo))
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--some--model"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    embedder = load_embedder(Embed(model="some/model", window=16))
    assert embedder.revision == commit
    assert embedder.fingerprint == load_embedder(Embed(model=str(folder), window=16)).fingerprint


def test_finding_and_hashing_a_model_loads_no_torch(folder):
    code = """
import sys
from chameleon_data.weights.embedder import in_precision, load_embedder
from chameleon_data.recipe import Embed
load_embedder(Embed(model=sys.argv[1]))
assert not {"torch", "transformers", "sentence_transformers"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True)


def test_a_language_models_layer_is_part_of_its_fingerprint(folder):
    two, three = (load_embedder(Embed(causal_lm=str(folder), layer=n, window=32)) for n in (2, 3))
    assert two.fingerprint != three.fingerprint
    assert two.layer == 2


def test_pickled_language_models_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"embed\.causal_lm: .* is pickled"):
        load_embedder(Embed(causal_lm=str(folder)))


@pytest.mark.parametrize(
    ("asked", "says"),
    [({"model": "a", "causal_lm": "b"}, "give one of"), ({"column": "v", "causal_lm": "b"}, "give one of"),
     ({"layer": 3}, "counts the blocks"), ({"column": "v", "window": 99}, "finished vectors"), ({"model": None}, "give one of")],
)  # fmt: skip
def test_one_embedder_at_a_time(asked, says):
    with pytest.raises(ValueError, match=says):
        Embed(**asked)


@pytest.mark.parametrize(
    ("dtype", "gpu", "chosen"),
    [("auto", False, "float32"), ("auto", True, "bfloat16"), ("float32", True, "float32"), ("bfloat16", False, "bfloat16")],
)
def test_the_precision_is_part_of_what_was_embedded(folder, dtype, gpu, chosen):
    plain = load_embedder(Embed(model=str(folder)))
    found = in_precision(plain, dtype, gpu)
    assert found.dtype == chosen
    assert (found.fingerprint == plain.fingerprint) == (chosen == "float32")


def test_tf32_needs_a_gpu(folder):
    plain = load_embedder(Embed(model=str(folder)))
    assert in_precision(plain, "tf32", True).fingerprint != in_precision(plain, "bfloat16", True).fingerprint
    with pytest.raises(InputError, match=r"embed\.dtype: tf32 is a GPU's"):
        in_precision(plain, "tf32", False)
