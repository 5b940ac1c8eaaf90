"""Sets of models that a child is a weighted sum of: what each leaves of it."""

import pytest
import torch

from lineage.infer.spans import affine_residual


def test_a_set_of_two_that_are_one_leaves_all_and_stops_no_search() -> None:
    gram = torch.tensor(
        [[1.0, 1.0 + 1e-12, 0.0], [1.0 + 1e-12, 1.0, 0.0], [0.0, 0.0, 1.0]],
        dtype=torch.float64,
    )
    left = affine_residual(gram, torch.tensor([[0, 1], [0, 2]]))
    assert float(left[0]) > 1e6
    assert float(left[1]) == pytest.approx(0.5)
