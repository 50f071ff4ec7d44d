"""Proof of a version: from its stored bytes, and with the corpus at hand from a second survey of it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from chameleon_data.errors import InputError
from chameleon_data.leases import leased
from chameleon_data.recipe import Recipe
from chameleon_data.recount import Sums, recount
from chameleon_data.storage import Store
from chameleon_data.versions import ROOT
from pipelines.cluster import Progress
from pipelines.survey import census, survey


def survey_again(store: Store, manifest: Mapping[str, Any], progress: Progress) -> tuple[list[str], Sums]:
    """What the corpus says against a version, and what each shard must hold.

    No earlier survey is believed: the records of this one go into a folder of their own, which is removed at the end.
    """
    try:
        recipe = Recipe.model_validate(manifest["recipe"])
    except ValidationError as error:
        raise InputError(f"{store.url}: the recipe in the manifest is not one of this chameleon-data ({error})") from error
    scratch = Store(f"{store.url.rstrip('/')}/{ROOT}/recount/{secrets.token_hex(8)}")
    with leased(store):
        try:
            corpus = survey(scratch, recipe, progress)
            return recount(scratch, recipe, corpus, census(scratch, recipe, corpus), manifest)
        finally:
            scratch.remove(list(scratch.list()))
