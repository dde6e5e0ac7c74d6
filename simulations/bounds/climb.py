"""Searches that push observed/bound up, many instances at once; torch for gradients, only here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulations.bounds.bound import Bound, Instances, root_mean_square

if TYPE_CHECKING:
    import torch

SMALL = 1e-3
"""Ratios below are climbed as they are and not by their logarithm, which has no end at 0."""
MEMORY = 12
ENOUGH = 1e-7
"""A gradient search ends where all instances together gain less than this."""


def climb(bound: Bound, start: Instances, evaluations: int, rng: np.random.Generator) -> np.ndarray:
    """(batch,) the largest ratio that a search from each instance has met, rounding taken off.

    evaluations: how often all instances are evaluated, at most. By gradient where there is one,
    with random steps in between, which leave the ridges where a minimum or maximum has its kink;
    otherwise by random steps alone.
    """
    if not bound.differentiable:
        return _by_steps(bound, start, evaluations, rng)[1]
    half = evaluations // 2
    values, first = _by_gradient(bound, start, half)
    values, second = _by_steps(bound, values, half // 2, rng)
    _, third = _by_gradient(bound, values, half // 2)
    return np.maximum(np.maximum(first, second), third)


class _Packed:
    """The free arrays as one real vector, every instance measured in its root mean square."""

    def __init__(self, bound: Bound, values: Instances) -> None:
        self.values = values
        self.names = bound.free
        self.sizes = {name: root_mean_square(values[name]) for name in self.names}
        self.complex = {name: np.iscomplexobj(values[name]) for name in self.names}

    def vector(self) -> np.ndarray:
        parts = []
        for name in self.names:
            part = np.ascontiguousarray(self.values[name] / self.sizes[name])
            parts.append((part.view(np.float64) if self.complex[name] else part).ravel())
        return np.concatenate(parts)

    def arrays(self, vector: np.ndarray) -> Instances:
        """As numpy arrays."""
        found, at = dict(self.values), 0
        for name in self.names:
            shape = self.values[name].shape
            length = int(np.prod(shape)) * (2 if self.complex[name] else 1)
            part = vector[at : at + length]
            found[name] = self.sizes[name] * (
                part.view(np.complex128) if self.complex[name] else part
            ).reshape(shape)
            at += length
        return found

    def tensors(self, vector: torch.Tensor, fixed: dict[str, torch.Tensor]) -> dict:
        """As torch tensors with the history of the vector."""
        import torch

        found, at = dict(fixed), 0
        for name in self.names:
            shape = self.values[name].shape
            length = int(np.prod(shape)) * (2 if self.complex[name] else 1)
            part = vector[at : at + length]
            if self.complex[name]:
                part = torch.view_as_complex(part.reshape(-1, 2))
            found[name] = part.reshape(shape) * torch.as_tensor(self.sizes[name])
            at += length
        return found


def _by_gradient(bound: Bound, start: Instances, evaluations: int) -> tuple[Instances, np.ndarray]:
    """L-BFGS on all instances together; (where it ends, the largest ratio met)."""
    import torch
    from scipy.optimize import minimize

    packed = _Packed(bound, start)
    fixed = {name: torch.tensor(array) for name, array in start.items()}
    best = bound.ratios(start)

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        point = torch.tensor(x, requires_grad=True)
        observed, allowed, rounding = bound.sides(packed.tensors(point, fixed))
        known = torch.isfinite(observed) & torch.isfinite(allowed) & (allowed > 0)
        safe = torch.where(known, allowed, torch.ones_like(allowed))
        reached = torch.where(known, (observed - rounding) / safe, 0.0).detach().numpy()
        np.maximum(best, reached, out=best)
        ratio = torch.where(known, observed / safe, torch.zeros_like(safe))
        loss = -torch.sum(torch.asinh(ratio / SMALL))
        (slope,) = torch.autograd.grad(loss, point)
        # a root or an angle at 0 has no slope; the instance moves on by its other numbers
        return float(loss.detach()), torch.nan_to_num(slope, 0.0, 0.0, 0.0).numpy()

    found = minimize(
        objective,
        packed.vector(),
        jac=True,
        method="L-BFGS-B",
        options={"maxfun": evaluations, "maxcor": MEMORY, "ftol": ENOUGH, "gtol": 1e-9},
    )
    return packed.arrays(found.x), best


def _by_steps(
    bound: Bound, start: Instances, evaluations: int, rng: np.random.Generator
) -> tuple[Instances, np.ndarray]:
    """A step that helps is kept and the next is longer; after one that does not it is shorter."""
    values, best = dict(start), bound.ratios(start)
    size = np.full(len(best), 0.1)
    for _ in range(evaluations):
        tried = bound.perturbed(values, rng, size)
        found = bound.ratios(tried)
        better = found > best
        for name in bound.free:
            keep = better.reshape(-1, *(1,) * (values[name].ndim - 1))
            values[name] = np.where(keep, tried[name], values[name])
        best = np.maximum(best, found)
        # a fifth of the steps helping leaves the length as it is
        size = np.where(better, 1.5 * size, size / 1.5**0.25)
    return values, best
