"""How the symbols of the registry are printed, and what each of them is in words."""

from __future__ import annotations

from collections.abc import Iterable

import sympy as sp

PRINTED = {
    "z_s": "z'",
    "w_u": "w'",
    "query_norm": r"\lVert q\rVert",
    "query_norm_s": r"\lVert q'\rVert",
    "query_norm_max": "Q",
    "query_step": r"\varepsilon_{q}",
    "query_move": r"\delta_{q}",
    "key_norm": r"\lVert k\rVert",
    "key_norm_u": r"\lVert k'\rVert",
    "key_norm_max": "K",
    "key_step": r"\varepsilon_{k}",
    "key_distance": r"\delta_{k}",
    "sigma_centred": r"\sigma_{c}",
    "change_max": r"\lVert\Delta a\rVert_{\infty}",
    "energy": "A_{m}",
    "energy_*": "A_{*}",
    "dq_a": r"\Delta q_{a}",
    "dq_b": r"\Delta q_{b}",
    "frequency_error": r"\varepsilon_{\theta}",
    "u_angle": "u_{a}",
    "u_table": "u_{t}",
    "trig_error": r"\delta_{t}",
    "error_q": r"\rho_{t}",
    "error_k": r"\rho_{i}",
    "error_q_s": r"\rho_{t+s}",
    "error_k_s": r"\rho_{i+s}",
}
"""Name of a symbol in the code -> LaTeX; primes are the shifted query and key."""

MEANS = {
    "L": "the period of the input, positions",
    "N": "the spacing of the diagonals, positions",
    "R": r"the sum over the other channels of $\kappa_m\theta_m/\theta_*$",
    "D": "the change of the logit of one key, the later row less the earlier one",
    "P": "the attention of one key in the earlier row, over the keys that both rows see",
    "bound_max": "the largest sum over channels of (B) over the common keys",
    "change_max": "the largest change of a logit from one row to the next",
    "covariance": "one entry of the covariance of the keys under the earlier row",
    "delta": r"the largest resonance error $2|\sin(L\theta_m/2)|$ of the channels with energy",
    "diameter": "the largest distance of two keys, after RoPE",
    "dominant": "what one position turns the dominant channel by, for a query and key",
    "dq_a": "coordinate a of the query step after RoPE",
    "dq_b": "coordinate b of the query step after RoPE",
    "drift_before": "the drift of the keys to the one at the distance before, over the channels",
    "drift_next": "the drift of the keys to the one at the next distance, summed over the channels",
    "energy": "the energy $|z^m||w^m|$ of a channel",
    "energy_*": "the energy of the dominant channel",
    "energy_sum": "the sum over the channels of $|z^m||w^m|$",
    "error_k": "the relative error of the rotated key at $i$",
    "error_k_s": "the relative error of the rotated key at $i + s$",
    "error_q": "the relative error of the rotated query at $t$",
    "error_q_s": "the relative error of the rotated query at $t + s$",
    "exponential": r"the mean of $e^{D - \mathrm{mean}}$ under the earlier row",
    "frequency_error": "the relative error of the stored angular frequency",
    "gained": "the mass of the later row on keys that the earlier one does not see",
    "k_a": "coordinate a of a key after RoPE",
    "k_b": "coordinate b of a key after RoPE",
    "kappa": r"the sum over the other channels of $A_m\theta_m/(A_*\theta_*)$, the slope of each"
    " against that of the dominant one; with the drift in it where keys drift",
    "key_bound": "the sum over the channels of (B), for a key",
    "key_distance": "the distance of two keys after RoPE, on one channel or of whole vectors",
    "key_norm": "the norm of the key",
    "key_norm_max": "the largest norm of a key",
    "key_norm_u": "the norm of the shifted key",
    "key_step": "the length of the key's change over the shift, before RoPE",
    "lead": "the logit of the key less that of its rival, at $t$",
    "lost": "the mass of the earlier row on keys that the later one no longer sees",
    "m_k": "an entry of the second moment of the keys, not centred",
    "m_q": "an entry of the second moment of the query steps, not centred",
    "major": "1 on the dominant channel and 0 elsewhere",
    "mass": "the mass of a set of keys in the earlier row, among the keys common to both rows",
    "mean": "the mean of the logit changes under the earlier row",
    "mean_a": "coordinate a of the mean key under the earlier row",
    "mean_b": "coordinate b of the mean key under the earlier row",
    "mean_square": r"the mean of $(\Delta a)^2$ over the pairs",
    "mean_square_t": r"the mean of $(\Delta a)^2$ over row $t$",
    "minor": "0 on the dominant channel and 1 elsewhere",
    "n": "the number of keys visible to both rows",
    "omega": "the oscillation: the largest less the smallest change of a logit over the common"
    " keys, or any number no smaller",
    "psi": r"the angle from $z\bar w$ to $z'\bar w'$",
    "query_move": "the distance of the shifted query from the query, both after RoPE",
    "query_norm": "the norm of the query",
    "query_norm_max": "the largest norm of a query",
    "query_norm_s": "the norm of the shifted query",
    "query_step": "the length of the query's change over the shift, before RoPE",
    "radius": "a lower bound of the norm of the query channel",
    "rival_bound": "the sum over the channels of (B), for a rival key",
    "sigma": r"the smallest nonzero singular value $\sigma^+$ of the keys after RoPE; the d-th,"
    r" $\sigma_d$, in bounds of the whole step",
    "sigma_centred": r"$\sigma_c^+$, the smallest nonzero singular value of the keys less their"
    " mean",
    "similarity": "the cosine of the two queries",
    "slow": "what one position turns the other channels by, for a query and key, summed",
    "step": "the norm of the query step after RoPE, projected on the span of the keys, or, where"
    " the oscillation is bounded, on the span of their differences",
    "step_after": "the largest move of the query channel in one of the steps, after RoPE",
    "step_before": "the length of the query step before RoPE",
    "tau": "the number of steps of the query",
    "theta_*": "the angular frequency of the dominant channel",
    "tiny": "half the smallest subnormal number of the arithmetic, 0 without underflow",
    "trig_error": "the largest error of a computed cosine or sine, before it is rounded",
    "turned": "what one position turns the query by,"
    r" $(\sum_m 4\sin^2(\theta_m/2)|z^m|^2)^{1/2}$",
    "u_angle": "the unit roundoff of the angles",
    "u_table": "the unit roundoff of the stored cosines and sines",
    "v": "any real number: where on its wave the dominant channel is, radians",
    "value_distance": "the largest distance of a discarded from a kept value",
    "variance": "the variance of the logit changes under the earlier row",
    "x": "a size of logit change",
}
"""Name of a symbol in the code -> what it is, as prose; what the setting explains is left out."""

HERE = {
    "typical_case": {"N": "the number of keys in row $t$"},
    "lifetime": {
        "step_before": "the length of the query step on the channel, before RoPE",
        "w_u": r"in `margin`, the rival key; in `new_key`, the new one",
    },
    "rotation_precision": {
        "p": "the position, held exactly",
        "u": "the unit roundoff of the rotation's arithmetic",
    },
    "query_drift": {
        "omega": r"the oscillation: the largest less the smallest logit change"
        r" $\lambda\langle\Delta q, k_i\rangle$"
    },
}
"""Theorem -> the same, where a name means something else there."""

SETTING = {"z", "z_s", "w", "w_u", "theta", "lambda", "t", "i", "s", "u"}
"""Names that the setting explains."""


def explained(symbols: Iterable[sp.Symbol], theorem: str) -> dict[str, str]:
    """Name -> what it is, of those symbols of a theorem that the setting does not explain."""
    means = MEANS | HERE.get(theorem, {})
    names = sorted({symbol.name for symbol in symbols}, key=lambda name: (name.lower(), name))
    return {name: means[name] for name in names if name in means}
