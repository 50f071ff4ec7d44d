import numpy as np

from chameleon_data.weights.explain.sample_map import map_samples


def test_the_map_is_the_first_two_principal_components_whatever_the_sign():
    generator = np.random.default_rng(0)
    spread = np.diag([5.0, 2.0, 0.1, 0.1])
    vectors = {name: (generator.normal(size=(80, 4)) @ spread).astype(np.float32) for name in ("a", "b")}
    pooled = np.concatenate(list(vectors.values())).astype(np.float64)
    centred = pooled - pooled.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    signed = axes[:2] * np.sign(axes[np.arange(2), np.abs(axes[:2]).argmax(axis=1)])[:, None]
    found = np.concatenate([np.array(points) for points in map_samples(vectors).values()])
    np.testing.assert_allclose(found, centred @ signed.T, atol=1e-3)


def test_many_domains_share_the_map():
    vectors = {str(i): np.random.default_rng(i).normal(size=(30, 8)).astype(np.float32) for i in range(600)}
    assert {len(points) for points in map_samples(vectors).values()} == {8}
