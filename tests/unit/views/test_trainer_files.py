"""The weights as files of trainers: what they say, what they say in comments, and that names stay data."""

from __future__ import annotations

import ast
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from chameleon_data.errors import InputError
from chameleon_data.recipe import Source
from chameleon_data.recipe_file import parse_recipe
from chameleon_data.versions.corpus_tables import InputFile
from chameleon_data.views import trainer_files
from chameleon_data.views.trainer_files import TRAINER_WRITERS, Blend, BlendEntry, BlendStage, make_blend
from tests.support.exports import ODD, WEIGHTS

SOURCES = {
    "legal": "/corpus/legal/*.jsonl.zst",
    "book": "/corpus/book/*.parquet",
    "web": {"path": "/corpus/mixed.jsonl.gz", "text": "body", "domain": "meta.set", "rename": {"Code": "code"}},
}
AVAILABLE = {"legal": (130_000, 74), "book": (225_000, 25), "code": (160_000, 93), ODD: (30_000, 20)}
"""Domain -> (tokens, documents)."""
FILES = {
    "legal": ("/corpus/legal/0.jsonl.zst", "jsonl"), "book": ("/corpus/book/0.parquet", "parquet"),
    "web": ("/corpus/mixed.jsonl.gz", "jsonl"),
}  # fmt: skip


WEIGHTS_IN_ORDER = sorted(WEIGHTS)


def blend_of(**mix: Any) -> Blend:
    plain = {"name": "ways out", "out": "/out", "seed": 3, "sources": SOURCES, "mix": {"max_epochs": 8} | mix}
    entries = [BlendEntry(name, WEIGHTS[name], *counts) for name, counts in AVAILABLE.items()]
    inputs = [InputFile(source, url, format, "none", 1, "") for source, (url, format) in FILES.items()]
    return make_blend("v2", parse_recipe(json.dumps(plain), Path("/")), entries, 500_000, inputs)


def write(form: str, **mix: Any) -> str:
    """What `export OUT@v2 FORM` prints, of a recipe with these keys under `mix`."""
    return TRAINER_WRITERS[form](blend_of(**mix), "s3://bucket/converted data")


def test_documents_are_drawn_so_that_tokens_have_the_weights() -> None:
    blend = blend_of()
    tokens = {e.name: blend.drawn(e) * e.tokens / e.rows for e in blend.entries}
    assert {name: t / sum(tokens.values()) for name, t in tokens.items()} == pytest.approx(WEIGHTS)
    assert blend.documents * sum(tokens.values()) == pytest.approx(blend.budget, rel=0.01)


@pytest.mark.parametrize("mix", [{}, {"exhausted": "repeat"}, {"exhausted": "fail"}, {"max_epochs": 0.5}])
def test_a_source_mixture_of_olmo_core(mix: dict[str, Any]) -> None:
    """By the rules of olmo_core/data/source_mixture.py: the keys, `validate`, and what `build` calls insufficient tokens."""
    value = yaml.safe_load(write("olmo", **mix))
    assert value.keys() == {"sources"}
    assert sum(s["target_ratio"] for s in value["sources"]) == pytest.approx(1, abs=1e-12)
    for source in value["sources"]:
        assert source.keys() == {"source_name", "target_ratio", "paths", "max_repetition_ratio", "max_source_fraction"}
        assert 0 < source["target_ratio"] <= 1
        assert source["max_repetition_ratio"] >= 1
        assert 0 < source["max_source_fraction"] <= 1
        assert all(re.fullmatch(r"s3://bucket/converted data/[A-Za-z0-9_-]+/\*\.npy", path) for path in source["paths"])
        available = AVAILABLE[source["source_name"]][0]
        most = int(available * source["max_source_fraction"] * source["max_repetition_ratio"])
        assert most >= int(500_000 * source["target_ratio"])
        if not mix:
            assert source["max_repetition_ratio"] == 8
    assert {s["source_name"]: s["target_ratio"] for s in value["sources"]} == WEIGHTS


def test_what_cannot_be_said_is_said_in_comments() -> None:
    for form in TRAINER_WRITERS:
        text = write(form)
        comments = " ".join(line for line in text.splitlines() if line.startswith("#"))
        assert "500,000 tokens" in comments or "requested_tokens: 500000" in comments
        assert "held on average" in comments
        assert ("max_epochs cannot be said" in comments) == (form != "olmo")
        assert ("no path can name the domains of source web" in comments) == (form != "datasets")
        if form != "datasets":
            assert (
                "its column meta.set says the domain of each row (Code = code); split the rows by it while converting" in comments
            )
            assert f"source web ({ODD}, code): its column" in comments
            assert f"# {ODD}: " in text
            assert "/corpus/book/*.parquet" in comments
    assert ".repeat(None)" in write("datasets")
    assert ".repeat(None)" not in write("datasets", exhausted="fail")


LATER = {"book": 0.75, "code": 0.25}
STAGES = (BlendStage(450_000, WEIGHTS), BlendStage(50_000, LATER))


def write_stages(form: str) -> str:
    return TRAINER_WRITERS[form](replace(blend_of(), stages=STAGES), "s3://bucket/converted data")


def test_each_form_says_the_schedule_or_that_it_cannot() -> None:
    together = {form for form in TRAINER_WRITERS if "of all 2 stages together: only the shards say" in write_stages(form)}
    assert {*TRAINER_WRITERS} - together == {"levanter", "megatron", "olmo"}
    assert "stage" not in "".join(map(write, TRAINER_WRITERS))


def test_megatron_and_olmo_take_a_blend_for_each_stage() -> None:
    lines = [shlex.split(line) for line in write_stages("megatron").splitlines() if line.startswith("--data-path ")]
    named = [
        dict(zip((p.split("/")[-1].split("_text")[0] for p in line[2::2]), map(float, line[1::2]), strict=True)) for line in lines
    ]
    assert [sorted(blend.values()) for blend in named] == [sorted(WEIGHTS.values()), [0.25, 0.75]]
    assert named[1] == LATER
    first, second = yaml.safe_load_all(write_stages("olmo"))
    assert {s["source_name"]: s["target_ratio"] for s in first["sources"]} == WEIGHTS
    assert {s["source_name"]: s["target_ratio"] for s in second["sources"]} == LATER
    for form in ("megatron", "olmo"):
        assert "# stage 2 of 2: 50,000 tokens\n" in write_stages(form)
        assert "reads each domain from its beginning again; only the shards go on" in write_stages(form)


def test_no_two_stages_of_levanter_begin_at_one_step() -> None:
    """Its MixtureDataset refuses a schedule that does not rise; here the stages are shorter than a step of a mebitoken."""
    weights = yaml.safe_load(write_stages("levanter"))["data"]["train_weights"]
    assert weights == [[0, WEIGHTS], [14, LATER]]
    assert "at a step, of 32,768 tokens here" in write_stages("levanter")


def test_what_is_lost_of_conversations_is_said() -> None:
    chats = replace(blend_of(), chat=True, trained=True)
    texts = {form: TRAINER_WRITERS[form](chats, "/d") for form in TRAINER_WRITERS if form != "torchtitan"}
    assert all("weights are shares of trained bytes of text" in text for text in texts.values())
    lost = {form for form, text in texts.items() if "learns from every token of them" in text}
    assert lost == {"mosaicml", "megatron", "olmo", "automodel"}
    assert "however much of each is learned from" in texts["levanter"]
    formats = [one["format"] for one in yaml.safe_load(texts["levanter"])["data"]["components"].values()]
    assert formats == [{"type": "chat", "messages_field": "messages"}] * 4


def test_levanter_takes_a_schedule_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `train_weights` of its LmDataConfig: (step, weights) of each stage, whose names are components."""
    monkeypatch.setattr(trainer_files, "STEP_TOKENS", 1_000)
    data = yaml.safe_load(write_stages("levanter"))["data"]
    assert data["train_weights"] == [[0, WEIGHTS], [450, LATER]]
    assert all({*weights} <= {*data["components"]} for _, weights in data["train_weights"])
    assert all(one["source"]["type"] == "url" and one["source"]["train_urls"] for one in data["components"].values())


def test_shares_of_rows_give_the_weights() -> None:
    """axolotl and TRL read a share of each domain's rows once an epoch, and as many epochs as make the budget."""
    blend = blend_of()
    mixed, script = yaml.safe_load(write("axolotl")), yaml.safe_load(write("trl"))
    kept = dict(zip(WEIGHTS_IN_ORDER, map(blend.kept, blend.entries), strict=True))
    tokens = {name: share * AVAILABLE[name][0] for name, share in kept.items()}
    assert {name: count / sum(tokens.values()) for name, count in tokens.items()} == pytest.approx(WEIGHTS)
    assert max(kept.values()) == 1
    assert mixed["num_epochs"] * sum(tokens.values()) == pytest.approx(500_000, rel=1e-3)
    assert script["num_train_epochs"] == mixed["num_epochs"]
    for name, each, other in zip(WEIGHTS_IN_ORDER, script["datasets"], mixed["datasets"], strict=True):
        assert each.keys() == {"path", "data_dir", "split", "columns"}
        assert other.keys() == {"path", "split", "type", "field"}
        assert each["split"] == other["split"] == f"train[:{round(kept[name] * AVAILABLE[name][1])}]"
        assert each["columns"] == ["text"]
    chats = replace(blend, chat=True)
    assert {each["type"] for each in yaml.safe_load(TRAINER_WRITERS["axolotl"](chats, "/d"))["datasets"]} == {"chat_template"}
    assert [each["columns"] for each in yaml.safe_load(TRAINER_WRITERS["trl"](chats, "/d"))["datasets"]] == [["messages"]] * 4


def test_a_mixture_of_torchtitan_counts_packed_rows() -> None:
    """Weights are of packed rows, so they are those of the tokens. Conversations are refused."""
    text = write("torchtitan")
    (mixture,) = [node.value for node in ast.parse(text).body if isinstance(node, ast.Assign) and "MIXTURE" in ast.unparse(node)]
    patterns, weights = zip(*ast.literal_eval(mixture), strict=True)
    assert list(weights) == [WEIGHTS[name] for name in WEIGHTS_IN_ORDER]
    assert "s3://bucket/converted data/legal/*.jsonl" in patterns
    assert "infinite=True" in text
    assert "infinite=False" in write("torchtitan", exhausted="fail")
    with pytest.raises(InputError, match="reads texts"):
        TRAINER_WRITERS["torchtitan"](replace(blend_of(), chat=True), "/d")


def test_finetuning_tools_get_the_numbers_that_they_count_by() -> None:
    """Tokens in levanter and NeMo Automodel; rows in ms-swift and LLaMA-Factory."""
    blend = blend_of()
    assert yaml.safe_load(write("levanter"))["data"]["train_weights"] == WEIGHTS
    paths = yaml.safe_load(write("automodel"))["dataset"]["paths"]
    assert {float(weight) for weight in paths[::2]} == set(WEIGHTS.values())
    drawn = [blend.drawn(entry) for entry in blend.entries]
    swift = shlex.split(write("swift"), comments=True)
    at = swift.index("--interleave_prob")
    assert [float(p) for p in swift[at + 1 : at + 1 + len(drawn)]] == drawn
    assert len(swift[1:at]) == len(drawn)
    assert swift[-1] == "all_exhausted"
    factory = yaml.safe_load(write("llamafactory", exhausted="fail"))
    assert [float(p) for p in factory["interleave_probs"].split(",")] == drawn
    assert factory["mix_strategy"] == "interleave_under"
    info = json.loads(trainer_files.dataset_info(blend))
    assert list(info) == factory["dataset"].split(",")
    assert info["code"] == {"file_name": "code", "columns": {"prompt": "body"}}


ROLES = {
    "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant", "observation_tag": "tool",
    "function_tag": "function_call", "system_tag": "system",
}  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "described"),
    [
        ({"prompt": ["instruction", "input"], "completion": "output"},
         {"formatting": "alpaca", "columns": {"prompt": "instruction", "query": "input", "response": "output"}}),
        ({"chat": "conversations"}, {"formatting": "sharegpt", "columns": {"messages": "conversations"}}),
        ({"chat": "messages", "tools": "tools"},
         {"formatting": "openai", "columns": {"messages": "messages", "tools": "tools"}, "tags": ROLES}),
        ({"chat": "messages"}, {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": ROLES}),
    ],
)  # fmt: skip
def test_columns_of_conversations_in_dataset_info(keys: dict[str, Any], described: dict[str, Any]) -> None:
    assert trainer_files._describe_columns(Source(path=("/a",), **keys)) == described


def test_names_and_paths_stay_data() -> None:
    """A source whose name and path are made to break out of a string, a comment or a line."""
    evil = "x'\"); import os; os._exit(3) #: [y]"
    sources = {evil: f"/in\n{evil}/*.jsonl", "b": "/b.csv"}
    recipe = parse_recipe(json.dumps({"name": "n\nimport os", "out": "/out", "sources": sources}), Path("/"))
    entries = [BlendEntry(name, 0.5, 10, 2) for name in (evil, "b")]
    inputs = [
        InputFile(evil, f"/in\n{evil}/1.jsonl", "jsonl", "none", 1, ""),
        InputFile("b", "/b.csv", "csv", "none", 1, ""),
    ]
    blend = make_blend("v1\nimport os", recipe, entries, 100, inputs)
    texts = {form: writer(blend, "/data") for form, writer in TRAINER_WRITERS.items()}
    assert yaml.safe_load(texts["mosaicml"])["streams"].keys() == {evil, "b"}
    assert {s["source_name"] for s in yaml.safe_load(texts["olmo"])["sources"]} == {evil, "b"}
    assert len(shlex.split(texts["megatron"], comments=True)) == 5
    tree = ast.parse(texts["datasets"])
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    assert [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and n.value == evil] == [evil]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("/data/a [1]*?/x.jsonl", None),
        ("s3://bucket/a#b/x.jsonl", None),
        ("/data/a::b/x.jsonl", "with '::' in its name"),
        *((f"s3://bucket/a{sign}b/x.jsonl", "of an object store with '*', '?' or '[' in its name") for sign in "*?["),
    ],
)
def test_files_that_datasets_does_not_open_are_told(url: str, said: str | None) -> None:
    text = TRAINER_WRITERS["datasets"](replace(blend_of(), files={**blend_of().files, "legal": ((url, "jsonl"),)}), "")
    (note,) = [line for line in text.splitlines() if "`datasets` opens no file" in line] or [None]
    assert (note is None) == (said is None)
    assert said is None or said in (note or "")


def test_the_files_of_a_domain_are_those_that_were_read() -> None:
    """By format, and by what says the domain: a column, or a folder of hive's."""
    plain, by_column = Source(path=("/a",)), Source(path=("/a",), domain="set", rename={"w": "web"})
    files = [
        ("/a/1.jsonl.gz", "jsonl"),
        ("/a/2", "jsonl"),
        ("/a/3.pq", "parquet"),
        ("/a/set=w/4.pq", "parquet"),
        ("/a/set=x/5.pq", "parquet"),
    ]
    assert trainer_files._files_of(plain, files, "web") == [
        ("jsonl", None, ["/a/1.jsonl.gz", "/a/2"]),
        ("parquet", None, ["/a/3.pq", "/a/set=w/4.pq", "/a/set=x/5.pq"]),
    ]
    assert trainer_files._files_of(by_column, files, "web") == [
        ("jsonl", "set", ["/a/1.jsonl.gz", "/a/2"]), ("parquet", None, ["/a/set=w/4.pq"]), ("parquet", "set", ["/a/3.pq"]),
    ]  # fmt: skip


def test_a_name_that_is_no_file_name_gets_one_of_its_own() -> None:
    odd = ["../x", "a/b", "a_b", "a b", ".hidden", "ä", "ö", "x" * 200, "CON "]
    made = [trainer_files._folder_name(name) for name in odd]
    assert len(set(made)) == len(odd)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name) for name in made)
    assert trainer_files._folder_name("wiki-2.en") == "wiki-2.en"
