"""Published files as their trainers apply them; names matched or refused."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from chameleon_data import InputError
from chameleon_data.weights.bounds import bound_weights
from chameleon_data.weights.published import plain_name, read_published_weights
from chameleon_data.weights.weigh import weights_without_scores
from tests.support.paths import DATA

FOLDER = DATA / "published"


SLIMPAJAMA = ["arxiv", "book", "c4", "cc", "github", "stackexchange", "wikipedia"]


PILE = [
    "arxiv", "bookcorpus2", "books3", "dm_mathematics", "enron_emails", "europarl", "freelaw", "github", "gutenberg_pg_19",
    "hackernews", "nih_exporter", "opensubtitles", "openwebtext2", "philpapers", "pile_cc", "pubmed_abstracts",
    "pubmed_central", "stackexchange", "ubuntu_irc", "uspto_backgrounds", "wikipedia_en", "youtubesubtitles",
]  # fmt: skip


def read(file: str) -> str:
    return (FOLDER / file).read_text(encoding="utf-8")


def test_doge_is_read_in_the_order_of_its_loader() -> None:
    found = read_published_weights(read("doge_slimpajama.json"), SLIMPAJAMA, "doge.json")
    assert found.format == "DoGE"
    assert found.weights == pytest.approx(
        {"arxiv": 0.088, "book": 0.045, "c4": 0.269, "cc": 0.214, "github": 0.07, "stackexchange": 0.166, "wikipedia": 0.148}
    )
    assert found.names == {name: name for name in SLIMPAJAMA}
    assert found.notes == (f"doge.json: 'train_dw' was read in the order of DoGE's data loader, {', '.join(SLIMPAJAMA)}",)


def test_doremi_in_the_format_of_doge_has_the_same_trap() -> None:
    found = read_published_weights(read("doremi10k_slimpajama.json"), SLIMPAJAMA)
    assert found.weights["c4"] < 0.02 < 0.29 < found.weights["cc"]


def test_doremi() -> None:
    found = read_published_weights(read("doremi_pile_280M.json"), PILE, "pile.json")
    given_ = json.loads(read("doremi_pile_280M.json"))["train_domain_weights"]
    assert found.format == "DoReMi"
    assert len(found.weights) == 22
    assert {found.names[name]: w for name, w in found.weights.items()} == pytest.approx(
        {name: w / sum(given_.values()) for name, w in given_.items()}
    )
    assert found.names["gutenberg_pg_19"] == "Gutenberg (PG-19)"
    assert found.names["pile_cc"] == "Pile-CC"
    assert found.notes[0].startswith("pile.json: names matched but for case, prefix and separators: 'ArXiv' as arxiv, ")
    assert (
        read_published_weights(read("doremi_pile_280M.json"), given_, "pile.json").notes == found.notes[1:]
    )  # the file's own names


def test_regmix() -> None:
    raw = yaml.safe_load(read("regmix_pile_1b.yaml"))["train"]
    domains = [name.removeprefix("train_the_pile_") for name in raw]
    found = read_published_weights(read("regmix_pile_1b.yaml"), domains)
    assert found.format == "RegMix"
    assert found.weights == pytest.approx(
        {name.removeprefix("train_the_pile_"): w / sum(raw.values()) for name, w in raw.items()}
    )
    assert read_published_weights(read("regmix_pile_1b.yaml"), raw).names == {name: name for name in raw}


def test_doremi_and_regmix_name_the_same_domains() -> None:
    regmix = {plain_name(name) for name in yaml.safe_load(read("regmix_pile_1b.yaml"))["train"]}
    assert regmix < {plain_name(name) for name in json.loads(read("doremi_pile_280M.json"))["train_domain_weights"]}


def doge(**changed: object) -> str:
    return json.dumps({**json.loads(read("doge_slimpajama.json")), **changed})


PUBLISHED = {
    "other domains": (doge(train_domains="en,de"), "the domain 'de'; the order .* SlimPajama"),
    "too few": (doge(train_dw="0.5,0.5"), "'train_dw' has 2 weights for arxiv"),
    "a mix": (doge(train_dw="0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.3"), "weight of 'mix'.*is not zero"),
    "not a number": (doge(train_dw="a,1,1,1,1,1,1,0"), "weight of 'arxiv' is 'a', not a number"),
    "a list": (doge(train_dw=[1, 2]), "texts with commas between"),
    "no DoReMi domain": ('{"train_domain_weights": {}}', "'train_domain_weights' is empty"),
    "nested": ("train: {arxiv: {a: 1}}", "weight of 'arxiv' is .*not a number"),
}


@pytest.mark.parametrize("case", PUBLISHED)
def test_a_published_file_that_does_not_fit_is_refused(case: str) -> None:
    text, message = PUBLISHED[case]
    with pytest.raises(InputError, match=message):
        read_published_weights(text, SLIMPAJAMA, "file")


def test_a_domain_may_be_called_train() -> None:
    assert read_published_weights("{train: 1, test: 1}", ["train", "test"]).format == "plain"


NAMES = {
    "case": ("{ArXiv: 1, Book: 1}", ["arxiv", "book"], {"arxiv": "ArXiv", "book": "Book"}),
    "exact before plain": ("{Pile-CC: 1, pile_cc: 3}", ["pile_cc", "Pile-CC"], {"pile_cc": "pile_cc", "Pile-CC": "Pile-CC"}),
    "exact leaves one": ("{CC: 1, cc: 3}", ["cc", "C-C"], {"cc": "cc", "C-C": "CC"}),
    "beyond ASCII": ("{STRASSE: 1, b: 1}", ["straße", "b"], {"straße": "STRASSE", "b": "b"}),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_match_where_one_is_left_on_each_side(case: str) -> None:
    text, domains, names = NAMES[case]
    assert read_published_weights(text, domains).names == names


MISMATCHED = {
    "two of theirs": ("{CC: 1, c_c: 1}", ["cc", "x"], "CC, c_c may each be meant for cc;"),
    "two of ours": ("{CC: 1, x: 1}", ["c_c", "c-c"], "CC may each be meant for c-c, c_c;"),
    "letters that differ": ("{c#: 1, b: 1}", ["c", "b"], "no weight for c; unknown c#"),
    "nearest": ("{Wikipedia (en): 1, b: 1}", ["wikipedia", "b"], r"'Wikipedia \(en\)' may be meant for 'wikipedia'"),
    "missing": ("{a: 1}", ["a", "b", "c"], "no weight for b, c; name exactly"),
    "extra of weight zero": ("{a: 1, b: 0}", ["a"], "unknown b; name exactly"),
}


@pytest.mark.parametrize("case", MISMATCHED)
def test_names_that_do_not_match_are_refused(case: str) -> None:
    text, domains, message = MISMATCHED[case]
    with pytest.raises(InputError, match=message):
        read_published_weights(text, domains)


@settings(deadline=None)
@given(st.sets(st.text("abAB _-", min_size=1, max_size=5), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_no_weight_is_given_to_two_domains_or_lost(names: set[str], random: object) -> None:
    ours = sorted(names)
    theirs = [random.choice([name, name.upper(), name.replace("_", "-"), name + " "]) for name in ours]
    text = json.dumps({name: i + 1 for i, name in enumerate(dict.fromkeys(theirs))})
    try:
        found = read_published_weights(text, ours)
    except InputError:
        return
    assert sorted(found.names) == ours
    assert sorted(found.names.values()) == sorted(set(theirs))
    assert all(plain_name(mine) == plain_name(other) for mine, other in found.names.items())
    assert sum(found.weights.values()) == pytest.approx(1)


def test_weights_are_read_from_json_and_yaml() -> None:
    for text in ('{"b": 0.25, "a": 0.75}', "a: .75\nb: 0.25\n", "# ours\na: 7.5e-1\nb: 0.25"):
        found = read_published_weights(text, ["a", "b"])
        assert found.weights == {"a": 0.75, "b": 0.25}
        assert found.notes == ()
        result = weights_without_scores(found.weights, dict.fromkeys(found.weights), found.notes)
        assert result.weights == found.weights
        assert result.scores == result.intervals == {"a": None, "b": None}


def test_weights_that_do_not_sum_to_one_are_normalised_and_said() -> None:
    found = read_published_weights("a: 3\nb: 1e-5\n", ["a", "b"], "mix.yaml")
    assert found.weights["b"] == pytest.approx(1e-5 / 3.00001)
    assert found.notes == ("mix.yaml: the weights sum to 3.00001 and were divided by it",)


FILES = {
    "missing": ("a: 1", "mix: no weight for b;"),
    "extra": ("{a: 1, b: 1, c: 1}", "mix: unknown c;"),
    "misspelt": ("{a: 1, bb: 1}", "'bb' may be meant for 'b'"),
    "negative": ("{a: 1, b: -1}", "'b' is -1"),
    "nan": ('{"a": 1, "b": NaN}', "'b' is nan"),
    "infinite": ("{a: 1, b: .inf}", "'b' is inf"),
    "boolean": ("{a: 1, b: true}", "'b' is nan"),
    "text": ("{a: 1, b: much}", "'b' is 'much', not a number"),
    "nested": ("{a: 1, b: {c: 1}}", "not a number"),
    "zero": ("{a: 0, b: 0}", "every weight is zero"),
    "twice": ("a: 1\na: 2\nb: 1", "stands twice"),
    "twice in JSON": ('{"a": 1, "a": 2}', "'a' stands twice"),
    "a list": ("[1, 2]", "mapping of domain to number"),
    "empty": ("", "mapping of domain to number"),
    "neither": ("a: [", "neither JSON nor YAML"),
    "a date that is none": ("{a: 1, b: 2024-99-99}", "neither JSON nor YAML"),
    "deep": ("[" * 100_000, "neither JSON nor YAML"),
    "alias": ("a: &x 1\nb: *x", "anchors"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_does_not_fit_is_refused(case: str) -> None:
    text, message = FILES[case]
    with pytest.raises(InputError, match=message):
        read_published_weights(text, ["a", "b"], "mix")


def test_given_weights_enter_where_computed_ones_do() -> None:
    given_weights = read_published_weights("{a: 1, b: 3}", ["a", "b"])
    assert bound_weights(given_weights.weights, cap=0.6).decimals == {"a": "0.40000", "b": "0.60000"}
