"""Vocabularies: their ids stand for all bytes of any text, and the same texts give the same one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.evaluation.vocabulary import END, TO_GUESS, Vocabulary, train_vocabulary
from tests.support.small_pools import make_texts

TEXTS = [text for own in make_texts(2, 20).values() for text in own]
TRAINED = {size: train_vocabulary(TEXTS, size) for size in (256, 300, 400)}


@pytest.mark.parametrize("size", TRAINED)
@given(text=st.text(max_size=40))
def test_the_bytes_of_the_ids_are_those_of_the_text(size: int, text: str) -> None:
    vocabulary: Vocabulary = TRAINED[size]
    (ids,) = vocabulary.encode([text])
    assert int(vocabulary.bytes_of(ids).sum()) == len(text.encode())
    assert not {END, TO_GUESS} & set(ids.tolist())
    assert len(ids) == 0 or ids.max() < len(vocabulary)


def test_a_text_that_spells_a_special_token_is_text() -> None:
    (ids,) = TRAINED[300].encode(["<end><hidden>"])
    assert not {END, TO_GUESS} & set(ids.tolist())


def test_the_same_texts_give_the_same_vocabulary() -> None:
    assert train_vocabulary(TEXTS, 400) == TRAINED[400]
    assert (len(TRAINED[256]), len(TRAINED[300]), len(TRAINED[400])) == (258, 300, 400)
