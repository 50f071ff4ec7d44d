"""What a person types for a dataset or a version: OUT, OUT@v12, OUT@12, OUT@TAG, OUT@latest."""

from __future__ import annotations

import difflib
import re

from chameleon_data.errors import InputError, list_some
from chameleon_data.store.paths import BUILDS, EXPORTS, FORMAT_FILE, REPORTS, ROOT, TAG_NAME
from chameleon_data.store.store import Store
from chameleon_data.versions.tags import LATEST, VERSION_NUMBER, TagEntry, list_tags, tag_history
from chameleon_data.versions.versions import Version, list_numbers, read_tombstone, read_version

NO_VERSION_YET = "no version is finished there yet; `chameleon-data build RECIPE` makes one, or goes on where it was interrupted"


def split_target(target: str) -> tuple[str, str]:
    """`OUT@V` as (OUT, V), and `OUT` as (OUT, "latest"). The last @ after the last / divides them, so folders may hold @."""
    folder, slash, last = target.rpartition("/")
    owner = ""
    if re.fullmatch(r"abfss?:/", folder):  # abfs://container@account.dfs.core.windows.net: its first @ is no version
        owner, at, last = last.partition("@")
        owner += at
    name, at, reference = last.rpartition("@")
    if not at:
        return target, LATEST
    url = folder + slash + owner + name
    if not url or not reference:
        raise InputError("a version is written OUT@V, where V is v12, 12, a tag or 'latest'; without @V it is the latest")
    return url, reference


def open_dataset(url: str) -> Store:
    """The store of a dataset, which may have no version yet. Raises InputError with what is there instead, and what to type."""
    store = Store(url)
    local = store.local(ROOT)
    if local is not None and local.parent.is_file():
        named = "if it is a recipe, name its 'out'" if local.parent.suffix in (".yaml", ".yml") else "name a recipe's 'out'"
        raise InputError(f"{store.url}: a file, where a dataset is a folder; {named}")
    if store.exists(FORMAT_FILE) or store.list(ROOT) or store.list(BUILDS):
        return store
    raise InputError(f"{store.url}: {_explain_no_dataset(store)}")


def _explain_no_dataset(store: Store) -> str:
    """What is at the URL of a store that is no dataset, and what to type."""
    inside = re.fullmatch(rf"(.*[^/])/({ROOT}|{BUILDS}|{REPORTS}|{EXPORTS})(/.*)?", store.url.rstrip("/"))
    if inside and Store(inside[1]).exists(FORMAT_FILE):
        return f"lies inside a dataset; name the dataset itself: {inside[1]}"
    make = "make one with `chameleon-data build RECIPE`"
    local = store.local(ROOT)
    if local is None:
        return f"no dataset is there; correct the folder, or {make}"
    folder = local.parent
    if not folder.is_dir():
        beside = [other.name for other in folder.parent.iterdir() if other.is_dir()] if folder.parent.is_dir() else []
        close = difflib.get_close_matches(folder.name, beside, n=1)
        hint = f" (did you mean {folder.parent / close[0]}?)" if close else ""
        return f"no dataset is there, nor a folder; correct the folder{hint}, or {make}"
    below = sorted(str(other.parent.parent) for other in folder.glob(f"*/{FORMAT_FILE}"))
    if below:
        return f"a folder that is no dataset, but holds some; correct the folder: {list_some(below)}"
    return f"a folder, but no dataset is there; correct the folder: it is a recipe's 'out', or {make}"


def resolve_version(store: Store, reference: str) -> Version:
    """The version that `v12`, `12`, a tag or `latest` means."""
    number_given = re.fullmatch(VERSION_NUMBER, reference, re.ASCII)
    is_tag = not number_given and reference != LATEST and re.fullmatch(TAG_NAME, reference)
    history = tag_history(store, reference) if is_tag else ()  # before the versions, as a version is there before its tag
    live, deleted = list_numbers(store)
    if not live and not deleted:
        raise InputError(f"{store.url}: {NO_VERSION_YET}")
    if reference == LATEST:
        if not live:
            raise InputError(f"{store.url}: holds no version any more, v{deleted[-1]} was the last that was deleted; build anew")
        return read_version(store, live[-1])
    if number_given:
        number = int(number_given[1])
        if number in deleted:
            raise InputError(f"{store.url}: v{number} {_say_deleted(store, number)}; {_list_what_is_there(store, live)}")
        if number not in live:
            raise _unknown_version_error(store, reference, live)
        return read_version(store, number)
    if not history:
        raise _unknown_version_error(store, reference, live)
    return _resolve_tag(store, reference, history[-1], live, deleted)


def _resolve_tag(store: Store, reference: str, newest: TagEntry, live: list[int], deleted: list[int]) -> Version:
    """The version that a tag means by its newest entry."""
    if newest.version in deleted:
        raise InputError(
            f"{store.url}: tag {reference!r} is v{newest.version}, which {_say_deleted(store, newest.version)}; tag another "
            f"version with it; {_list_what_is_there(store, live)}"
        )
    if newest.version not in live:
        raise InputError(f"{store.url}: tag {reference!r} is v{newest.version}, which is not there; was the folder copied whole?")
    version = read_version(store, newest.version)
    if version.manifest != newest.manifest:
        raise InputError(f"{store.url}: tag {reference!r} was given to another v{newest.version} than is there; tag it again")
    return version


def _say_deleted(store: Store, number: int) -> str:
    return f"was deleted on {read_tombstone(store, number).deleted}"


def _unknown_version_error(store: Store, reference: str, numbers: list[int]) -> InputError:
    close = difflib.get_close_matches(reference, [*list_tags(store), LATEST], n=1)
    hint = f", did you mean {close[0]!r}?" if close else ";"
    return InputError(f"{store.url}: no version {reference!r}{hint} {_list_what_is_there(store, numbers)}")


def _list_what_is_there(store: Store, numbers: list[int]) -> str:
    tags = list(list_tags(store))
    first = [f"v{n}" for n in numbers[:-5]]
    shown = [*(first if len(first) < 2 else [first[0], "…"]), *(f"v{n}" for n in numbers[-5:])]
    listed = f"{', '.join(tags[:20])}{' …' if len(tags) > 20 else ''}"
    named = f"the tag{'s' * (len(tags) > 1)} {listed}" if tags else "no tags"
    return f"the folder has {', '.join(shown)} and {named}" if shown else f"no version is left, and {named}"
