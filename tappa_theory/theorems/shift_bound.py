"""The shift identity and bound (B), on which the other theorems stand."""

from tappa_theory.shift_identity import BOUND, MODULUS_SQUARED, TIGHTER_BOUND
from tappa_theory.theorems.theorem import PublishedForm, Theorem

THEOREM = Theorem(
    id="shift_bound",
    title="Shift bound: what a shift of query and key can change",
    source="not in the paper: the shift identity, on which the repaired theorems stand",
    statement=(
        r"|a_{t+s,i+u} - a_{t,i}| \le \sum_m \lambda_m \left( |z_{t+s}^m - z_t^m|\,|w_{i+u}^m|"
        r" + |z_t^m|\,|w_{i+u}^m - w_i^m|"
        r" + 2\left|\sin\tfrac{(s-u)\theta_m}{2}\right| |z_t^m|\,|w_i^m| \right)"
    ),
    hypotheses=(
        "both pairs are causal, and the angular frequencies are the same for all positions",
        r"$\lambda_m$ is the softmax scale times the squared attention scaling that RoPE gives the"
        r" channel: one number $\lambda$ unless a scaled RoPE makes it differ",
    ),
    published=PublishedForm(
        text="Nothing is published: the paper's theorems treat each pattern by itself.",
        reading="there is no published form to compare with",
    ),
    bound=BOUND,
    auxiliary={"tighter": TIGHTER_BOUND, "modulus_squared": MODULUS_SQUARED},
)
