"""What an adapter made of adapters holds of each: its change over theirs, by least squares."""

from collections.abc import Sequence

import numpy as np
import torch

from lineage.infer.adaptermix import laid, products
from lineage.infer.jointfit import JointFit, fit_by_parts
from lineage.infer.views import View


def blend_fit(child: View, sources: Sequence[View]) -> JointFit | None:
    """Return how much of each source's change an adapter holds, from sketches of the products.

    Where factors were added, the products between two sources are nobody's and stay unexplained.
    None where the changes cannot be laid along the child's, or are too few to fit.
    """
    ours = products(child)
    columns = [c for s in sources if (c := laid(ours, products(s))) is not None and c.any()]
    if len(ours) < 2 or len(columns) < len(sources):
        return None
    changes = torch.from_numpy(np.stack(columns))
    own = torch.from_numpy(np.concatenate([p.values for p in ours]))
    sizes = torch.tensor([len(p.values) for p in ours])
    return fit_by_parts(
        changes, own, torch.repeat_interleave(torch.arange(len(ours)), sizes), len(ours)
    )
