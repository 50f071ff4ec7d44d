"""Every path inside `out`, spelled once: the code that writes a file and the code that cleans it up both ask here.

builds/<plan digest>/<format>/…             shards and the indexes of their formats
builds/<plan digest>/domain_ids.json        domain -> `domain_id` of its rows; written with the indexes
builds/<plan digest>/receipts/…             that the shards of a range are whole; written after their files
builds/<plan digest>/domain_counts/…        rows and tokens of each shard of a range by domain; written before its receipt
builds/<plan digest>/lineage/…              where each row came from, if the recipe asks for it
builds/<plan digest>/runs/<corpus>/…        rows on their way to shards; removed when the version is committed
index.html                                  the catalogue: every version, with links to its files
reports/v12.html, exports/<form>/…          what `report` and `export` write
_chameleon/format.json                      which layout this is, and the id of the dataset
_chameleon/manifests/<sha256>.json          what a version holds, under the hash of its own bytes
_chameleon/tables/<sha256>.parquet          shards, their domains, inputs or the map of a version, as its manifest names them
_chameleon/versions/v00000012.json          the commit: number 12 is that manifest
_chameleon/deleted/v00000012.json           the tombstone of version 12, which keeps its number for ever
_chameleon/tags/<name>/00000003.json        where a tag points; the highest generation holds
_chameleon/openlineage/v00000012.jsonl      the OpenLineage events of the build that made version 12; never removed
_chameleon/domains/00000003.json            clustering 3: how domains were discovered; never removed
_chameleon/domains/<sha256>.parquet         its topics, by which texts are labelled; never removed
_chameleon/landmarks/<digest>.parquet       landmarks that a version was weighed on
_chameleon/cache/{survey,embed,statistics,weights}/…    records of passes; whatever is missing is made anew
_chameleon/cache/parts/<digest>/…           the list of a corpus' parts, for the tasks that read them
_chameleon/cache/selection/<digest>/…       records of a large corpus by range of hashes, and the copies in it
_chameleon/cache/layout/<digest>/…          what tasks found where a bound cuts a bucket of hashes
_chameleon/cache/divisions/<reader>.parquet   which fragments of a source each of its parts has
_chameleon/cache/rows/<part>/…              the rows of the corpus, sorted by hash; in the folder of --scratch if there is one
_chameleon/cache/evaluate/<pool>.npz, …     pools and shared checkpoints of `evaluate`; made anew like other caches
_chameleon/evaluations/plans/<digest>.json  what an evaluation will compare and how, written before its first trial; never removed
_chameleon/evaluations/trials/<key>.json      what a judge said of one mixture with one seed; never removed
_chameleon/evaluations/v12-<judge>-<plan>.json    what is said of the mixtures of version 12; never removed
_chameleon/checks/<id>/…                    the second survey of `verify --corpus`; removed at its end
_chameleon/checks/nonce-<id>                by which the nodes of a cluster know the folder; removed at the driver's end
_chameleon/active/driver-<id>.json          who is at work and what it uses; removed at its end
_chameleon/active/gc-<id>.json              the mark of a gc that removes files; removed at its end
_chameleon/active/probe-<id>.json           written by a gc that only looks, to learn the store's time
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

ROOT = "_chameleon"
BUILDS = "builds"
CATALOGUE = "index.html"
REPORTS = "reports"
EXPORTS = "exports"
DOMAIN_IDS = "domain_ids.json"
"""In the folder of a build."""

FORMAT_FILE = f"{ROOT}/format.json"
MANIFESTS = f"{ROOT}/manifests"
TABLES = f"{ROOT}/tables"
VERSIONS = f"{ROOT}/versions"
DELETED = f"{ROOT}/deleted"
TAGS = f"{ROOT}/tags"
LINEAGE_EVENTS = f"{ROOT}/openlineage"
LANDMARKS = f"{ROOT}/landmarks"
TOPICS = f"{ROOT}/domains"
CHECKS = f"{ROOT}/checks"
ACTIVE = f"{ROOT}/active"
CACHE = f"{ROOT}/cache"
SURVEY_CACHE = f"{CACHE}/survey"
PART_LISTS = f"{CACHE}/parts"
LAYOUT_CACHE = f"{CACHE}/layout"
DIVISIONS = f"{CACHE}/divisions"
SELECTION_CACHE = f"{CACHE}/selection"
KEPT_ROWS = f"{CACHE}/rows"
EMBEDDING_CACHE = f"{CACHE}/embed"
STATISTICS_CACHE = f"{CACHE}/statistics"
WEIGHING_CACHE = f"{CACHE}/weights"
EVALUATION_CACHE = f"{CACHE}/evaluate"
EVALUATIONS = f"{ROOT}/evaluations"

TAG_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}"
REPORT_PAGE = re.compile(rf"{REPORTS}/v(\d{{1,18}})(?:-v(\d{{1,18}}))?\.html", re.ASCII)
"""(number,) of a report, or (before, after) of a difference."""
BUILD_FILE = re.compile(rf"{BUILDS}/([0-9a-f]{{64}})/(.*)", re.ASCII | re.DOTALL)
"""(plan digest, path in the build's folder)."""
MANIFEST_FILE = re.compile(rf"{MANIFESTS}/([0-9a-f]{{64}})\.json", re.ASCII)
TABLE_FILE = re.compile(rf"{TABLES}/([0-9a-f]{{64}})\.parquet", re.ASCII)
LANDMARKS_FILE = re.compile(rf"{LANDMARKS}/([0-9a-f]{{64}})\.parquet", re.ASCII)
ACTIVE_FILE = re.compile(rf"{ACTIVE}/(driver|gc|probe)-[0-9a-f]{{16}}\.json", re.ASCII)
"""(kind,)."""
NUMBERED_FILE = re.compile(rf"(?:{VERSIONS}|{DELETED})/v(\d{{8,18}})\.json", re.ASCII)
"""(number,) of a version or of a tombstone."""
TAG_FILE = re.compile(rf"{TAGS}/({TAG_NAME})/(\d{{8,18}})\.json", re.ASCII)
"""(name, generation)."""


def manifest_path(sha256: str) -> str:
    return f"{MANIFESTS}/{sha256}.json"


def table_path(sha256: str) -> str:
    return f"{TABLES}/{sha256}.parquet"


def version_path(number: int) -> str:
    return f"{VERSIONS}/v{number:08d}.json"


def tombstone_path(number: int) -> str:
    return f"{DELETED}/v{number:08d}.json"


def tag_path(name: str, generation: int) -> str:
    return f"{TAGS}/{name}/{generation:08d}.json"


def landmarks_path(digest: str) -> str:
    return f"{LANDMARKS}/{digest}.parquet"


def assigned_path(topics: str, part: str) -> str:
    """Topics of the texts of some fragments."""
    return f"{CACHE}/assigned/{topics}/{part}.parquet"


def unfinished_topics(assigned: str) -> str:
    """Topics of some texts of fragments of which not all are known; `assigned` is as above."""
    return assigned.removesuffix(".parquet")


def topics_path(sha256: str) -> str:
    return f"{TOPICS}/{sha256}.parquet"


def clustering_path(number: int) -> str:
    return f"{TOPICS}/{number:08d}.json"


def active_path(kind: str, name: str) -> str:
    return f"{ACTIVE}/{kind}-{name}.json"


def nonce_path(name: str) -> str:
    return f"{CHECKS}/nonce-{name}"


def statistics_folder(landmarks: str) -> str:
    """Statistics of domains on these landmarks, named by their digest."""
    return f"{STATISTICS_CACHE}/{landmarks}"


def weighing_path(key: str) -> str:
    return f"{WEIGHING_CACHE}/{key}.json"


def survey_path(part: str, name: str) -> str:
    """One file of the record of a part, which is named by its key."""
    return f"{SURVEY_CACHE}/{part}/{name}"


def division_path(reader: str) -> str:
    """How a source is divided into parts; named by a fingerprint of how it is read."""
    return f"{DIVISIONS}/{reader}.parquet"


def kept_part_folder(part: str) -> str:
    """Rows of a part, which is named by its key."""
    return f"{KEPT_ROWS}/{part}"


def kept_list_path(part: str, kind: str) -> str:
    """The list of the files that hold the rows of a part; written last. `kind` says what the bodies are."""
    return f"{kept_part_folder(part)}/{kind}.json"


def kept_file_path(part: str, kind: str, number: int) -> str:
    return f"{kept_part_folder(part)}/{kind}-{number:05d}.rows"


def embedding_folder(embedder: str) -> str:
    """Vectors of one embedder, named by its fingerprint."""
    return f"{EMBEDDING_CACHE}/{embedder}"


def embedding_batches(embedder: str) -> str:
    """Vectors of samples that are not whole yet."""
    return f"{embedding_folder(embedder)}/batches"


def pool_path(digest: str) -> str:
    return f"{EVALUATION_CACHE}/{digest}.npz"


def checkpoint_path(key: str) -> str:
    return f"{EVALUATION_CACHE}/{key}.safetensors"


def evaluation_plan_path(digest: str) -> str:
    return f"{EVALUATIONS}/plans/{digest}.json"


def trial_record_path(key: str) -> str:
    return f"{EVALUATIONS}/trials/{key}.json"


def comparison_path(version: int, judge: str, plan: str) -> str:
    return f"{comparison_prefix(version)}{judge}-{plan[:16]}.json"


def comparison_prefix(version: int) -> str:
    """How the names of the results of a version begin."""
    return f"{EVALUATIONS}/v{version}-"


def report_path(number: int) -> str:
    return f"{REPORTS}/v{number}.html"


def lineage_events_path(number: int) -> str:
    return f"{LINEAGE_EVENTS}/v{number:08d}.jsonl"


def difference_path(before: int, after: int) -> str:
    return f"{REPORTS}/v{before}-v{after}.html"


def figure_path(number: int, judge: str, name: str) -> str:
    return f"{REPORTS}/v{number}-{judge}-{name}.svg"


def export_folder(form: str) -> str:
    return f"{EXPORTS}/{form}"


@dataclass(frozen=True)
class SelectionFolder:
    """Where the tasks leave their files that select the rows of a corpus."""

    digest: str
    """What the selection depends on."""

    @property
    def folder(self) -> str:
        return f"{SELECTION_CACHE}/{self.digest}"

    @property
    def corpus(self) -> str:
        """What tasks know of the corpus."""
        return f"{self.folder}/corpus.json"

    def records(self, half: str, group: int) -> str:
        """Rows of a group of parts, by range of this half of the hash."""
        return f"{self.folder}/records-{half}-{group:05d}.slices"

    def counts(self, number: int, split: str) -> str:
        """Sums by domain of a range; written last."""
        return f"{self.folder}/counts-{number:05d}-{split}.parquet"

    def histogram(self, number: int, split: str) -> str:
        return f"{self.folder}/histogram-{number:05d}-{split}.parquet"

    def low_copies(self, number: int) -> str:
        """Copies in a range of the low half of the hash, by range of the high half."""
        return f"{self.folder}/copies-lo-{number:05d}.slices"

    def range_copies(self, number: int) -> str:
        """Copies in a range of the high half of the hash, by group of parts."""
        return f"{self.folder}/copies-{number:05d}.slices"

    def part_copies(self, part: int) -> str:
        return f"{self.folder}/copies-of-part-{part:07d}.parquet"


@dataclass(frozen=True)
class LayoutFolder:
    """Where the tasks leave their files that cut a layout."""

    digest: str
    """What the layout depends on."""

    @property
    def folder(self) -> str:
        return f"{LAYOUT_CACHE}/{self.digest}"

    @property
    def sketch(self) -> str:
        """The layout as far as histograms say it."""
        return f"{self.folder}/sketch.parquet"

    @property
    def open_shards(self) -> str:
        """Shards of which histograms do not say whether they hold a row."""
        return f"{self.folder}/open.parquet"

    def cuts(self, number: int) -> str:
        """What came of a range of hashes."""
        return f"{self.folder}/cuts-{number:05d}.parquet"

    def filled(self, number: int) -> str:
        """Shards that a range of hashes gives a row."""
        return f"{self.folder}/filled-{number:05d}.parquet"


@dataclass(frozen=True)
class BuildFolder:
    """Where the files of a build live, or of stages that were added to it."""

    digest: str
    """Digest of the plan, or of the plans of all splits."""
    shards: int
    """Number of shards of all splits in it."""
    corpus: str
    """Fingerprint of the ordered parts and of the ranges: rows of another division lie in other runs."""

    @property
    def folder(self) -> str:
        return f"{BUILDS}/{self.digest}"

    @property
    def all_runs(self) -> str:
        """Runs of every division of the corpus."""
        return f"{self.folder}/runs"

    @property
    def runs(self) -> str:
        return f"{self.all_runs}/{self.corpus}"

    @property
    def receipts(self) -> str:
        return f"{self.folder}/receipts"

    @property
    def domain_counts(self) -> str:
        return f"{self.folder}/domain_counts"

    def run_list(self, part: str) -> str:
        """The list of a part's runs; written last."""
        return f"{self.runs}/{part}.json"

    def run_prefix(self, part: str) -> str:
        return f"{self.runs}/{part}"

    def kept_copies(self, number: int) -> str:
        """Copies in a range of hashes that are dropped, where rows are kept; beside these, and removed when the shards are
        written."""
        return f"{KEPT_ROWS}/copies/{self.digest}-{self.corpus}-{number:05d}.arrow"

    def layout(self, split: int) -> str:
        return f"{self.runs}/layout-{split}.parquet"

    @property
    def held_out_alone(self) -> str:
        """Domains of the validation split alone, for tasks."""
        return f"{self.runs}/held-out-alone.json"

    def source(self, digest: str) -> str:
        """Where the rows are, for tasks."""
        return f"{self.runs}/source-{digest}.parquet"

    def divided(self, split: int, path: Sequence[int], group: int) -> str:
        """The bounds within a range, in the streams of a group of domains; `path` is its number at each level."""
        return f"{self.runs}/divided/{split}-{'-'.join(map(str, path))}-{group:05d}.parquet"

    def exchanged(self, split: int, path: Sequence[int], group: int) -> str:
        """The rows that a group of parts has in a range, by the smaller ranges within."""
        return f"{self.runs}/exchanged/{split}-{'-'.join(map(str, path))}-{group:05d}.run"

    def receipt(self, shards: range) -> str:
        """The record of some shards, numbered through all splits."""
        return f"{self.receipts}/{_span(shards)}.parquet"

    def domain_counts_of(self, shards: range) -> str:
        """What these shards hold of each domain."""
        return f"{self.domain_counts}/{_span(shards)}.parquet"

    def lineage(self, split: str, number: int) -> str:
        return f"{self.folder}/lineage/{split}-{number:05d}.parquet"

    def file(self, name: str) -> str:
        """A file of a format, such as parquet/train-00000-of-00001.parquet."""
        return f"{self.folder}/{name}"


def _span(shards: range) -> str:
    return f"{shards.start:07d}-{shards.stop - 1:07d}"
