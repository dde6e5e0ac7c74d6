"""The pattern of a head predicted from its ingredients: similarities, norms, channel energies.

No logit of a (query, key) pair is formed. The queries enter through their mean and their variance
per RoPE channel only (that is: through their all-pairs q-similarity and channel energies), keys
through their channels, norms and all-pairs k-similarity:

1. Every query is replaced by the mean query, which q-similarity 1 would make exact. Its attention
   at some hundred positions shows columns and offsets.
2. What the mean leaves out moves the logit of key i with variance
   s_i = (1/2) sum_m lambda_m^2 v_m |w_i^m|^2, v_m the query variance on channel m. Softmax ignores
   what moves all logits of a row alike; of keys with all-pairs similarity S after RoPE the share S
   is moved alike, so (1 - S) s_i remains, and in the mean of exp adds (1 - S) s_i / 2 to the logit.
3. The map is read with the same rules and thresholds as an observed one (`patterns`). A season is
   sought in the similarity of the queries, after RoPE, by lag. What rows have in common at the same
   distances is foretold by q- times k-similarity, adjacent, before RoPE: the logit at a distance
   is as before where query and key are.

Step 2 treats query deviations as isotropic and normal: it is a model, not a theorem.
"""

from dataclasses import dataclass

from tappa_theory import patterns, similarity
from tappa_theory.arrays import Array, asarray_like, namespace
from tappa_theory.attention import causal, logits, softmax
from tappa_theory.energy import channel_gain, period
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope, rotate

ROWS = 256
"""Positions at most at which the mean query's attention is looked at: with a few dozen, what the
mean over rows shows at a distance is the noise of the keys there."""

HIGH_SIMILARITY = 0.8
"""q- or k-similarity that counts as high in the published rule; the paper reports averages of about
0.80 and 0.86 for two models."""


@dataclass(frozen=True)
class Prediction:
    """A predicted pattern and what it rests on; shares as in `patterns.Lines`."""

    pattern: patterns.Pattern
    lines: patterns.Lines
    season: float
    season_lag: int | None


def mean_query_map(
    z: Array,
    w: Array,
    rope: Rope,
    scale: float,
    k_similarity: float | Array,
    window: int | None = None,
) -> tuple[Array, Array]:
    """(rows, attention): predicted attention of the mean query at `ROWS` positions.

    z, w: (..., T, M) channels before RoPE. k_similarity: all pairs, after RoPE, (...,). window: of
    a sliding-window layer. Returns the positions (R,) and the attention (..., R, T), as z's kind of
    array.
    """
    xp = namespace(z, w)
    length = z.shape[-2]
    first = patterns.observed_rows(length)
    count = min(ROWS, length - first)
    rows = xp.asarray(
        [first + round(r * (length - 1 - first) / max(count - 1, 1)) for r in range(count)],
        device=z.device,
    )
    gain = asarray_like(channel_gain(rope, scale), xp.real(z))
    mean = xp.mean(z, axis=-2, keepdims=True)
    queries = xp.broadcast_to(mean, (*z.shape[:-2], count, z.shape[-1]))
    of_mean = logits(queries, w, rope, scale, rows)
    variance = xp.mean(xp.abs(z - mean) ** 2, axis=-2, keepdims=True)
    noise = xp.sum(gain**2 * variance * xp.abs(w) ** 2, axis=-1) / 2
    apart = xp.clip(1 - asarray_like(k_similarity, gain, xp.float64), 0.0, 1.0)[..., None]
    raised = of_mean + (apart * noise / 2)[..., None, :]
    return rows, softmax(raised, causal(rows, length, window))


@dataclass(frozen=True)
class Alike:
    """How alike vectors of one head are, for `predict`: what many heads can be asked at once.

    by_lag: (T,) similarity of the queries, after RoPE, by lag (`similarity.all_lags`). query, key:
    adjacent similarity before RoPE, None where no two neighbours are nonzero.
    """

    by_lag: Array
    query: float | None
    key: float | None

    @classmethod
    def of(cls, z: Array, w: Array, rope: Rope) -> "Alike":
        """From queries and keys before RoPE. Raises InputError if every query is zero."""
        turned = rotate(z, rope, namespace(z, w).arange(z.shape[-2], device=z.device))
        return cls(similarity.all_lags(turned), _adjacent(z), _adjacent(w))


def predict(
    z: Array,
    w: Array,
    rope: Rope,
    scale: float,
    k_similarity: float,
    window: int | None = None,
    alike: Alike | None = None,
    lines: patterns.Lines | None = None,
) -> Prediction:
    """Predict one head's pattern from queries z and keys w, (T, M) channels before RoPE.

    k_similarity: all-pairs key similarity after RoPE (`similarity.all_pairs`). window: of a
    sliding-window layer. alike, lines (of `mean_query_map`): of this head, where known already.
    Raises InputError if every query is zero.
    """
    if lines is None:
        rows, attention = mean_query_map(z, w, rope, scale, k_similarity, window)
        (lines,), _ = patterns.lines_of(attention[None, ...], rows)
    alike = alike or Alike.of(z, w, rope)
    both = max(alike.query or 0.0, 0.0) * max(alike.key or 0.0, 0.0)
    seen = patterns.shown(lines, alike.by_lag, both)
    return Prediction(seen.pattern, lines, seen.season, seen.season_lag)


def _adjacent(x: Array) -> float | None:
    """Adjacent similarity, None where no two neighbours are nonzero."""
    try:
        return float(similarity.adjacent(x))
    except InputError:
        return None


def predict_published(
    q_similarity: float, k_similarity: float, dominant_frequency: float, length: int
) -> patterns.Pattern:
    """The paper's rule, as publicly summarised, read in its favour where it leaves a choice.

    Low q-similarity: unpredictable. High q-similarity and a dominant channel (of most energy) that
    does not complete two periods in the text: re_access. Otherwise, with high k-similarity,
    periodic_sequential; else sequential.

    q_similarity, k_similarity: adjacent, before RoPE. dominant_frequency: radians per position.
    """
    if q_similarity < HIGH_SIMILARITY:
        return "unpredictable"
    if 2 * period(dominant_frequency) > length:
        return "re_access"
    return "periodic_sequential" if k_similarity >= HIGH_SIMILARITY else "sequential"
