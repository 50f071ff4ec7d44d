"""How far weights move between embedders."""

from __future__ import annotations

from chameleon_data.weights.explain.movement import OtherEmbedder, warn_of_movement, weight_ranges

OWN = {"a": 0.2, "b": 0.3, "c": 0.5}
NONE: dict[str, tuple[float, float] | None] = dict.fromkeys("abc")
OTHERS = [
    OtherEmbedder("tfidf", "0", {"a": 0.25, "b": 0.3, "c": 0.45}, NONE),
    OtherEmbedder("some/model", "1", {"a": 0.1, "b": 0.32, "c": 0.58}, NONE),
]


def test_a_range_is_from_the_smallest_to_the_largest_weight_of_all_embedders() -> None:
    assert weight_ranges(OWN, OTHERS) == {"a": (0.1, 0.25), "b": (0.3, 0.32), "c": (0.45, 0.58)}
    assert weight_ranges(OWN, []) == {name: (w, w) for name, w in OWN.items()}


def test_the_largest_movement_is_told_beside_its_interval() -> None:
    (said,) = warn_of_movement(OWN, {**NONE, "a": (0.17, 0.22)}, OTHERS, "MiniLM")
    assert said.startswith("between embedders a weight moves by up to 0.150, 3.0 times the width of its interval")
    assert "(a: 0.200 by MiniLM, 0.250 by tfidf, 0.100 by some/model)" in said
    (without,) = warn_of_movement(OWN, NONE, OTHERS, "MiniLM")
    assert "times the width" not in without
    assert warn_of_movement(OWN, NONE, [], "MiniLM") == ()
