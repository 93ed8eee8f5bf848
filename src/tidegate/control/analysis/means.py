"""Means and their differences under continuous looking: quality, conversion, business metrics.

Asymptotic confidence sequences, Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, arXiv 2103.06476; the same boundary as
the mixture sequential probability ratio test with a normal prior (GAVI).
"""

from __future__ import annotations

import math

import msgspec
from scipy.special import log_ndtr

N_OPT = 1000.0
FEWEST = 100
"""Rows per arm before anyone looks: the boundary holds for large numbers."""


class Moments(msgspec.Struct, frozen=True):
    """Of one variable: number, mean, and variance with divisor n - 1."""

    n: int = 0
    mean: float = 0.0
    variance: float = 0.0

    @classmethod
    def of_counts(cls, n: int, successes: int) -> Moments:
        """Of zeros and ones."""
        rate = successes / n if n else 0.0
        return cls(n, rate, rate * (1 - rate) * n / (n - 1) if n > 1 else 0.0)

    def merge(self, other: Moments) -> Moments:
        """Of both together (Chan et al.)."""
        n = self.n + other.n
        if not self.n or not other.n:
            return other if other.n else self
        gap = other.mean - self.mean
        squares = self.variance * (self.n - 1) + other.variance * (other.n - 1) + gap * gap * self.n * other.n / n
        return Moments(n, self.mean + gap * other.n / n, squares / (n - 1))


class Pairs(msgspec.Struct, frozen=True):
    """Of an outcome and a covariate that was known before: moments of each, and their covariance."""

    outcome: Moments = Moments()
    covariate: Moments = Moments()
    covariance: float = 0.0

    @property
    def coefficient(self) -> float:
        """Of the outcome on the covariate. Take it from data before the start, and keep it: CUPED stays valid under
        continuous looking only with a coefficient that was fixed before."""
        return self.covariance / self.covariate.variance if self.covariate.variance else 0.0

    def adjusted(self, coefficient: float, centre: float = 0.0) -> Moments:
        """CUPED: moments of ``outcome - coefficient (covariate - centre)``; the same centre for every arm."""
        variance = (
            self.outcome.variance
            + coefficient * coefficient * self.covariate.variance
            - 2 * coefficient * self.covariance
        )
        mean = self.outcome.mean - coefficient * (self.covariate.mean - centre)
        return Moments(self.outcome.n, mean, max(variance, 0.0))


class Difference(msgspec.Struct, frozen=True):
    """An estimated effect, its standard error, and the rows behind it."""

    estimate: float
    error: float
    n: int

    def log_e(self, null: float = 0.0, alpha: float = 0.05, n_opt: float = N_OPT) -> float:
        """log E against "the effect is ``null``", two-sided; ``alpha`` and ``n_opt`` tune, they do not decide."""
        scale = self.n * rho_squared(alpha, n_opt)
        z = self._z(null)
        return scale / (1 + scale) * z * z / 2 - 0.5 * math.log1p(scale)

    def log_e_above(self, null: float = 0.0, alpha: float = 0.05, n_opt: float = N_OPT) -> float:
        """log E against "the effect is at most ``null``": a mixture over positive effects alone."""
        scale = self.n * rho_squared(2 * alpha, n_opt)
        shrunk, z = scale / (1 + scale), self._z(null)
        positive = float(log_ndtr(z * math.sqrt(shrunk)))
        return math.log(2.0) + shrunk * z * z / 2 + positive - 0.5 * math.log1p(scale)

    def interval(self, alpha: float = 0.05, n_opt: float = N_OPT) -> tuple[float, float]:
        """Two-sided, valid at any time."""
        half = half_width(self.error, self.n, alpha, n_opt)
        return self.estimate - half, self.estimate + half

    def least(self, alpha: float = 0.05, n_opt: float = N_OPT) -> float:
        """One-sided lower bound, valid at any time."""
        return self.estimate - half_width_one_sided(self.error, self.n, alpha, n_opt)

    def _z(self, null: float) -> float:
        # Nothing varies: so many equal rows do not say what others would be.
        return (self.estimate - null) / self.error if self.error else 0.0

    def negated(self) -> Difference:
        return Difference(-self.estimate, self.error, self.n)


def difference(baseline: Moments, candidate: Moments) -> Difference:
    """Of the means of independent arms, candidate minus baseline."""
    if baseline.n < 2 or candidate.n < 2:
        return Difference(0.0, 0.0, 0)
    error = math.sqrt(baseline.variance / baseline.n + candidate.variance / candidate.n)
    return Difference(candidate.mean - baseline.mean, error, baseline.n + candidate.n)


def paired(differences: Moments) -> Difference:
    """Of pairs, such as a shadow's and the baseline's answers to the same requests; candidate minus baseline."""
    if differences.n < 2:
        return Difference(0.0, 0.0, 0)
    return Difference(differences.mean, math.sqrt(differences.variance / differences.n), differences.n)


def rho_squared(alpha: float = 0.05, n_opt: float = N_OPT) -> float:
    """Tuning under which the interval is narrowest after ``n_opt`` rows; chosen before the start."""
    log = -2 * math.log(min(alpha, 0.5))
    return (log + math.log(1 + log)) / n_opt


def half_width(error: float, n: int, alpha: float = 0.05, n_opt: float = N_OPT) -> float:
    """Of the two-sided interval around an estimate with standard error ``error`` from n rows."""
    if n < 1:
        return math.inf
    g = 1 / rho_squared(alpha, n_opt)
    return error * math.sqrt((n + g) / n * math.log((n + g) / (g * alpha * alpha)))


def half_width_one_sided(error: float, n: int, alpha: float = 0.05, n_opt: float = N_OPT) -> float:
    """Distance from the estimate to its bound on one side; rho is tuned for 2 alpha."""
    if n < 1:
        return math.inf
    scale = n * rho_squared(2 * alpha, n_opt)
    return error * math.sqrt(2 * (scale + 1) / scale * math.log1p(math.sqrt(scale + 1) / (2 * alpha)))
