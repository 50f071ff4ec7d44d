"""What a person types: what is refused, with which words, and what is filled in."""

from __future__ import annotations

from pathlib import Path

import pytest

from chameleon_data.errors import InputError
from chameleon_data.jobs.screen import parse_size
from chameleon_data.recipe_file import check_recipe, load_recipe, parse_recipe

LEAST = "name: x\nout: out\nsources: {a: corpus/*.jsonl}\n"


def parse(text: str):
    return parse_recipe(text, Path("/base"), "r.yaml")


def test_the_least_recipe_has_the_documented_defaults_and_absolute_paths():
    recipe = parse(LEAST)
    assert recipe.out == "/base/out"
    assert recipe.sources["a"].path == ("/base/corpus/*.jsonl",)
    assert (recipe.embed.model, recipe.embed.samples, recipe.mix.budget, recipe.mix.max_epochs) == (
        "all-MiniLM-L6-v2",
        256,
        "auto",
        4,
    )
    assert recipe.shards.size == 64 * 2**20
    assert recipe.shards.zstd_level == 3


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("mix: {budgt: 5}", "r.yaml:4: mix.budgt: unknown key; did you mean 'budget'?"),
        ("embed:\n  window: 64\n  sample: 3", "r.yaml:6: embed.sample: unknown key; did you mean 'samples'?"),
        ("zebra: 1", "r.yaml:4: zebra: unknown key; known keys: name, out"),
        ("seed: 1\nseed: 2", "r.yaml:5: the key 'seed' stands twice"),
        ("mix: {budget: lots}", "r.yaml:4: mix.budget: 'lots' is not a quantity"),
        ("mix: {budget: 1e19}", "less than or equal to 4503599627370496"),
        ("mix: {budget: -3}", "greater than 0"),
        ("mix: {exhausted: maybe}", "'redistribute', 'repeat' or 'fail'"),
        ("shards: {size: 3 potatoes}", "not a quantity"),
        ("shards: {formats: [parquet, parquet]}", "name each format once"),
        ("shards: {level: 0}", "r.yaml:4: shards.level: "),
        ("shards: {level: 20}", "r.yaml:4: shards.level: "),
        ("shards: {level: 2.5}", "r.yaml:4: shards.level: "),
        ("shards: {level: on}", "shards.level: yes, on or true is not a number"),
        ("shards: {level: 3, compression: none}", "'level' is how hard zstd compresses; leave it out with 'compression: none'"),
        ("tokens: {unit: bytes, tokenizer: x}", "not both"),
        ("weights: {floor: 2}", "less than or equal to 1"),
        ("weights: &a {floor: 0.1}", "anchors and aliases are not part of a recipe"),
        ("seed: !!python/object:os.system 1", "tags are not part of a recipe"),
        ("input: {hash: id}", "sources.a: lacks the key 'id', the column that 'input.hash: id' identifies"),
        ("input: {dedup: fuzzy}", "r.yaml:4: input.dedup: must be 'none', 'exact' or 'exact_across'"),
        ("sources2: {}", "did you mean 'sources'?"),
        ('weights: {prior: {"a\\ud800": 2}}', r"r.yaml: weights.prior.a\ud800: half of a surrogate pair stands there"),
        ('embed: {also: [tfidf, "\\udcff"]}', "r.yaml: embed.also.1: half of a surrogate pair stands there"),
        ("shards: {formats: [parqet]}", "r.yaml:4: shards.formats.0: must be 'parquet', "),
        ("shards: {formats: [parqet]}", "(given: 'parqet'); did you mean 'parquet'?"),
        ("seed: yes", "r.yaml:4: seed: yes, on or true is not a number"),
        ("seed: 1:30", "seed: must be a whole number (given: '"),
        ("seed: 0x10", "seed: must be a whole number (given: '"),
        ("input: {max_bad: yes}", "input.max_bad: yes, on or true is not a number"),
        ("input: {max_document: on}", "is not a number"),
        ("input: {max_document: 2GiB}", "at most 2 GiB"),
        ("weights: {floor: yes}", "weights.floor: yes, on or true is not a number"),
        ("weights: {floor: {a: no}}", "no, off or false is not a number"),
        ("weights: {prior: {a: on}}", "is not a number"),
        ("weights: {temperature: {kl: yes}}", "is not a number"),
        ("weights: {centre: unifrom}", "weights.centre: 'unifrom' is no centre; write uniform, natural, natural^0.5, a file"),
        ("weights: {centre: natural^-1}", "is no centre"),
        ("weights: {centre: natural^1.2.3}", "is no centre"),
        (
            "weights: {centre: natural, from: w.json}",
            "weights: 'from' takes weights as they are; leave 'target' and 'centre' out",
        ),
        ("weights: {target: {like: x.txt}, from: w.json}", "leave 'target' and 'centre' out"),
        ("weights: {target: {lik: x.txt}}", "weights.target.lik: unknown key; did you mean 'like'?"),
        ("weights: {target: unsen}", "did you mean 'unseen'?"),
        ("weights: {target: {like: x.txt}}\nleverage: {level: sample}", "weights.target: matches the means of domains"),
        ("weights: {target: {like: x.txt}}\nleverage: {preset: reference}", "weights.target: matches the means of domains"),
        ("mix: {max_epochs: yes}", "mix.max_epochs: yes, on or true is not a number"),
        ("mix: {budget: yes}", "mix.budget: "),
        ("mix: {budget: 1:30}", "'1:30' is not a quantity"),
        ("mix: {budget: 1e999}", "'1e999' is too large"),
        ("mix: {budget: 1.0e+999}", "finite number"),
        ("mix: {max_epochs: 1e999}", "finite number"),
        ("shards: {size: 1e400GB}", "'1e400GB' is too large"),
        ("embed: {samples: yes}", "is not a number"),
        ("leverage: {landmarks: yes}", "is not a number"),
        ("weights: {compare: a.json}", "weights.compare: write a list: [a, b]"),
        ("mix: 5", "r.yaml:4: mix: must be a mapping: {key: value}"),
        ("shards: {lineage: 3}", "shards.lineage: must be true or false (given: 3)"),
        ("mix: {max_epochs: many}", "mix.max_epochs: must be a number (given: 'many')"),
        ("embed: {model: 7}", "embed.model: must be text (given: 7)"),
        ("leverage:\n  landmarks:\n    form: out@v1", "r.yaml:6: leverage.landmarks.form: unknown key; did you mean 'from'?"),
        ("leverage: {landmarks: {}}", "leverage.landmarks.from: this key is missing"),
        ("weights: {temperature: {kk: 3}}", "temperature.kk: unknown key; did you mean 'kl'?"),
        ("leverage: {ridge: {x: 3}}", "leverage.ridge.x: unknown key; known keys: effective_dimension"),
        (
            "weights:\n  groups:\n    g: {domains: [a], cup: 1}",
            "r.yaml:6: weights.groups.g.cup: unknown key; did you mean 'cap'?",
        ),
    ],
)
def test_a_wrong_recipe_is_refused_with_line_key_and_advice(extra, message):
    with pytest.raises(InputError) as refused:
        parse(LEAST + extra)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ("{no: a.jsonl}", "the key False is not text; quote it: 'no'"),
        ("{' a': a.jsonl}", "cannot be a domain name"),
        ('{"a\\nb": a.jsonl}', "cannot be a domain name"),
        ('{"\\u00e9": a.jsonl, "e\\u0301": b.jsonl}', "once Unicode is normalised"),
        ("{a: {path: []}}", "the list of paths is empty"),
        ("{a: {path: x.jsonl, rename: {b: c}}}", "'rename' needs 'domain'"),
        ("{a: zip://b::s3://x/y.zip}", "chained URLs"),
        ("{}", "at least 1 item"),
    ],
)
def test_wrong_sources_are_refused(sources, message):
    with pytest.raises(InputError) as refused:
        parse(f"name: x\nout: out\nsources: {sources}\n")
    assert message in str(refused.value)


@pytest.mark.parametrize("extra", ["seed: 1" + "0" * 400, "mix: {max_epochs: 1" + "0" * 400 + "}", "seed: 1" + "0" * 5000])
def test_numbers_of_many_digits_are_refused_and_do_not_overflow(extra):
    with pytest.raises(InputError, match=r"too large|digits"):
        parse(LEAST + extra)


def test_numbers_are_decimal_and_one_format_is_a_list():
    recipe = parse(LEAST + "seed: 010\nmix: {budget: 0_100, max_epochs: 1.5}\nshards: {formats: mds, size: 4.35KB}\n")
    assert (recipe.seed, recipe.mix.budget, recipe.mix.max_epochs) == (10, 100, 1.5)
    assert (recipe.shards.formats, recipe.shards.size) == (("mds",), 4350)


@pytest.mark.parametrize(("shards", "level"), [("level: 1", 1), ("level: 19", 19), ("level:", 3), ("compression: none", None)])
def test_the_level_that_shards_are_compressed_at(shards, level):
    assert parse(LEAST + f"shards: {{{shards}}}").shards.zstd_level == level


@pytest.mark.parametrize(
    ("path", "out", "apart"),
    [
        ("corpus", "corpus/out", False),
        ("corpus", "corpus", False),
        ("corpus/", "./corpus/../corpus/out", False),
        ("out/old/*.parquet", "out", False),
        ("out/builds/b/parquet/x.parquet", "out", False),
        ("corpus/**/*.parquet", "corpus/out", False),
        ("*/builds/*/parquet/*.parquet", "out", False),
        ("o?t/*/*.json", "out", False),
        ("link", "corpus/out", False),
        ("file:///base/corpus", "corpus/out", False),
        ("s3://b/corpus", "s3a://b//corpus/out", False),
        ("S3://b/**/*.jsonl", "s3://b/out", False),
        ("corpus", "corpus-out", True),
        ("corpus-out", "corpus", True),
        ("*.jsonl", "out", True),  # files beside the folder
        ("corpus-*/*.jsonl", "corpus/out", True),
        ("corpus/*.jsonl", "out", True),
        ("s3://b/corpus", "s3://c/corpus/out", True),
        ("s3://base/corpus", "corpus/out", True),
    ],
)
def test_out_is_neither_in_a_source_nor_around_it(tmp_path, path, out, apart):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "link").symlink_to("corpus")
    text = f"name: x\nout: {out}\nsources: {{x: ['{path.replace('/base', str(tmp_path))}']}}\n"
    if apart:
        parse_recipe(text, tmp_path, "r.yaml")
    else:
        with pytest.raises(InputError, match=r"^r\.yaml: sources\.x: .* contains out .*; put out elsewhere"):
            parse_recipe(text, tmp_path, "r.yaml")


@pytest.mark.parametrize(
    "section",
    ["weights: {{from: '{url}'}}", "weights: {{compare: ['{url}']}}", "tokens: {{tokenizer: '{url}'}}",
     "weights: {{centre: '{url}'}}", "weights: {{target: {{like: ['{url}']}}}}",
     "embed: {{model: '{url}'}}", "embed: {{causal_lm: '{url}'}}", "leverage: {{kernel: rbf, landmarks: {{from: '{url}'}}}}"],
)  # fmt: skip
@pytest.mark.parametrize(
    "url", ["s3://KEY:secret@bucket/x@v1", "https://me:secret@host", "https://h/x?sig=secret", "s3://KEY:secret@v1"]
)
def test_no_other_key_holds_a_secret_either(section, url):
    text = "name: t\nout: o\nsources: {a: x.jsonl}\n" + section.format(url=url)
    with pytest.raises(InputError, match=r"(from|compare|centre|like|tokenizer|model|causal_lm): \w+://…: ") as refusal:
        parse_recipe(text, Path("/r"))
    assert "secret" not in str(refusal.value)


def test_versions_of_a_whole_bucket_hold_none():
    for version in ("s3://bucket@v3", "s3://bucket@latest", "gs://bucket/a@prod", "out@v1"):
        text = f"name: t\nout: o\nsources: {{a: x.jsonl}}\nweights: {{from: '{version}'}}"
        assert str(parse_recipe(text, Path("/r")).weights.from_).endswith(version)


@pytest.mark.parametrize("key", ["out", "sources"])
@pytest.mark.parametrize(
    "url",
    [
        "s3://key:hunter2@b/x.jsonl",
        "s3://hunter2@b/x.jsonl",
        "https://hunter2@host/x.jsonl",
        "https://me:hunter2@host:80/x.jsonl",
        "https://host/x.jsonl?token=hunter2",
        "HTTPS://host/x.jsonl#hunter2",
        "s3://b/x.jsonl?X-Amz-Signature=hunter2",
        "abfs://c@account.dfs.core.windows.net/x.jsonl?sig=hunter2",
        "gs://b/x?GoogleAccessId=me&Signature=hunter2",
        "simplecache::https://me:hunter2@host/x.jsonl",
    ],
)
def test_a_url_that_may_hold_a_secret_is_refused_and_not_repeated(key, url):
    text = f"name: x\nout: {url if key == 'out' else 'out'}\nsources: {{a: '{url if key == 'sources' else 'a.jsonl'}'}}\n"
    with pytest.raises(InputError, match=r"^r\.yaml: (sources\.a|out)?.*(credentials|query|chained)") as refused:
        parse(text)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["abfs://c@account.dfs.core.windows.net/x.jsonl", "http://host:8080/x.jsonl", "/a/part-?#1.jsonl", "s3://b/p-*.jsonl"]
)
def test_urls_without_secrets_stay_as_they_are(url):
    assert parse(f"name: x\nout: out\nsources: {{a: '{url}'}}\n").sources["a"].path == (url,)


def test_a_key_that_is_missing_is_named():
    with pytest.raises(InputError, match=r"^r\.yaml:1: sources: this key is missing$"):
        parse("name: x\nout: out\n")


def test_several_faults_are_named_at_once():
    with pytest.raises(InputError) as refused:
        parse(LEAST + "mix: {budget: 0, epochs: 3}\nembed: {samples: none}\n")
    assert len(str(refused.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("given", "meant"), [("40_000_000", 40_000_000), ("40M", 40_000_000), ("'1.5B'", 1_500_000_000), ("1e9", 10**9)]
)
def test_quantities_as_people_write_them(given, meant):
    assert parse(LEAST + f"mix: {{budget: {given}}}").mix.budget == meant


@pytest.mark.parametrize("text", ["", "- a", "name: [", "name: x\nout: y\n", "\x00"])
def test_what_is_no_recipe_at_all(text):
    with pytest.raises(InputError, match=r"^r\.yaml"):
        parse(text)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("demos.yaml", "demos.yaml: the recipe cannot be read: there is no such file; did you mean {0}/demo.yaml?"),
        ("demo", "did you mean {0}/demo.yaml?"),
        ("nothing.yaml", "in {0} there are demo.yaml, own.yml"),
        ("", "{0}: the recipe cannot be read: it is a folder; in {0} there are demo.yaml, own.yml"),
        ("empty", "it is a folder; no .yaml file is in {0}/empty"),
        ("empty/x.yaml", "there is no such file; no .yaml file is in {0}/empty"),
        ("gone/x.yaml", "nor is there a folder {0}/gone"),
        ("demo.yaml/x.yaml", "nor is there a folder {0}/demo.yaml"),
        ("shard.parquet", "it is not text in UTF-8"),
    ],
)
def test_a_file_that_is_no_recipe_names_what_is_there(tmp_path, name, message):
    for file in ("demo.yaml", "own.yml", "notes.txt"):
        (tmp_path / file).write_text("a: b")
    (tmp_path / "empty").mkdir()
    (tmp_path / "shard.parquet").write_bytes(b"PAR1\xff\xfe")
    with pytest.raises(InputError) as refused:
        load_recipe(tmp_path / name)
    assert message.format(tmp_path) in str(refused.value)
    assert "Errno" not in str(refused.value)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ("shards:\n  size: 1MB\n  sequence_length: 512", "r.yaml:9: shards.sequence_length: sequences are of token ids"),
        ("shards:\n  formats: [megatron]", "r.yaml:8: shards.formats: megatron holds token ids"),
        ("input: {hash: id}", "r.yaml:5: sources.b: lacks the key 'id', the column that 'input.hash: id'"),
        ("input: {hash: id}", "(as do c)"),
    ],
)
def test_a_fault_between_sections_stands_at_the_key_to_mend(sections, message):
    sources = "sources:\n  a: {path: a.jsonl, id: key}\n  b: b.jsonl\n  c: c.jsonl\n"
    with pytest.raises(InputError) as refused:
        parse(f"name: x\nout: out\n{sources}{sections}")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("domain", "key"),
    [("' b': b.jsonl", "sources. b"), ("b: {path: b.jsonl, domain: d, rename: {v: ' c'}}", "sources.b.rename.v")],
)
def test_a_wrong_domain_name_stands_where_it_is_written(domain, key):
    with pytest.raises(InputError, match=rf"^r\.yaml:5: {key}: .* cannot be a domain name"):
        parse(f"name: x\nout: out\nsources:\n  a: a.jsonl\n  {domain}\n")


def test_a_dictionary_has_the_same_faults_without_lines(tmp_path):
    plain = {"name": "x", "out": "y", "sources": {"a": {"path": "z", "zzz": 1}}, "mix": {"budgt": 1}, "seed": 1e-5}
    with pytest.raises(InputError) as refusal:
        check_recipe(plain, tmp_path)
    assert str(refusal.value).splitlines() == [
        "recipe: seed: must be a whole number (given: 1e-05)",
        "recipe: sources.a.zzz: unknown key; known keys: path, text, chat, tools, prompt, completion, template, id, domain, "
        "rename, keep, where, license, origin",
        "recipe: mix.budgt: unknown key; did you mean 'budget'?",
    ]
    del plain["sources"]["a"]["zzz"], plain["mix"]["budgt"], plain["seed"]
    assert check_recipe(plain, tmp_path).out == str(tmp_path / "y")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: x\n out: y\n", "r.yaml:2: the indentation is wrong: this line starts in column 2; keys of one section start in"),
        ("name: x\nsources:\n  a: b\n c: d\n", "r.yaml:4: the indentation is wrong: this line starts in column 2"),
        ("sources:\n  a:\n  - b\n - c\n", "r.yaml:4: the indentation is wrong: this line starts in column 2"),
        ("sources:\n\ta: b\n", "r.yaml:2: a tab stands here; YAML indents by blanks"),
        ("sources:\n  a b\n  c: d\n", "r.yaml:3: line 2 has no ': ', a colon and a blank, after its key"),
        ("name: x\nout:y\nsources:\n", "r.yaml:3: line 2 has no ': ', a colon and a blank, after its key"),
        ("name: x: y\n", "r.yaml:1: a value that holds ': ' needs quotes"),
        (
            "sources: {a: b\nmix: {budget: 5}\n",
            "r.yaml:2: a bracket is not closed, so that } is missing, or a value inside it needs quotes",
        ),
        ('name: "x\nout: y\n', "r.yaml:3: a quote that was opened above is not closed"),
        ("sources: {a: *.jsonl}\n", "r.yaml:1: a value that begins with a sign such as * & @ % needs quotes"),
        ("out: %y\n", "r.yaml:1: a value that begins with a sign such as * & @ % needs quotes"),
        (LEAST + "budget: 5M\n", "r.yaml:4: budget: unknown key; it belongs under 'mix:', indented"),
        (
            LEAST + "mix:\n  shards: {size: 5MiB}\n",
            "r.yaml:5: mix.shards: unknown key; 'shards' stands at the top: indent it less",
        ),
        (
            "name: x\nout: y\nsources:\n  a: b\n  mix:\n    path: c\n    budget: 5M\n",
            "r.yaml:7: sources.mix.budget: unknown key; 'mix' stands at the top: indent it less",
        ),
    ],
)
def test_a_fault_of_indentation_is_told_as_such(text, told):
    with pytest.raises(InputError) as refusal:
        parse(text)
    assert str(refusal.value).startswith(told)


def test_all_paths_that_are_wrong_are_told_at_once():
    with pytest.raises(InputError) as refusal:
        parse(
            "name: x\nout: s3://u:p@b/x\nsources: {a: ['s3://b/x?key=1', 'a::s3://b'], c: 's3://u:p@b/y'}\nweights: {from: s3://u:p@b/w}\n"
        )
    where = [line.split(": ")[1] for line in str(refusal.value).splitlines()]
    assert where == ["sources.a", "sources.a", "sources.c", "out", "weights.from"]


@pytest.mark.parametrize("written", ["5 MB", "5MB", "5mb", "5_000 kB", "5000000", "5e6", "0.005 GB"])
def test_bytes_are_written_alike_wherever_they_are_asked(written):
    text = LEAST + f"input: {{max_document: {written}}}\nshards: {{size: {written}}}\nmix: {{budget: {written}}}\n"
    recipe = parse(text)
    assert recipe.input.max_document == recipe.shards.size == recipe.mix.budget == 5_000_000
    assert parse_size("--memory", written) == 5_000_000


def test_mebibytes_are_bytes_too_and_a_letter_is_a_number_of_tokens():
    assert parse(LEAST + "mix: {budget: 5 MiB}\nshards: {size: 5MiB}\n").mix.budget == 5 * 2**20
    assert parse(LEAST + "mix: {budget: 5B}\n").mix.budget == 5 * 10**9
    refused = "r.yaml:5: mix.budget: '5 MB' is a number of bytes, and this budget counts tokens of the tokenizer; write, say, 40M"
    with pytest.raises(InputError, match=f"^{refused}$"):
        parse(LEAST + "tokens: {tokenizer: t.json}\nmix: {budget: 5 MB}\n")
    with pytest.raises(InputError) as raised:  # with whatever else is wrong
        parse(LEAST + "tokens: {tokenizer: t.json}\nmix: {budget: 5 MB}\nseed: x\nshards: {level: 99}\n")
    assert [line.split(": ")[1] for line in str(raised.value).splitlines()] == ["seed", "mix.budget", "shards.level"]
