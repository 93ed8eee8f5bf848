"""How long a batch takes: seconds = base + per_row · rows, learnt from the batches that ran."""

from __future__ import annotations

_DECAY = 0.98
_ENOUGH = 8


class CostModel:
    """Least squares over exponentially fading observations; both coefficients are kept at 0 or above."""

    __slots__ = ("_n", "_nr", "_nrr", "_nrt", "_nt", "_seen", "base", "per_row")

    def __init__(self) -> None:
        self.base = 0.0
        self.per_row = 0.0
        self._seen = 0
        self._n = self._nr = self._nrr = self._nt = self._nrt = 0.0

    @property
    def known(self) -> bool:
        """True once there were enough batches to refuse anybody on its word."""
        return self._seen >= _ENOUGH

    def observe(self, rows: int, seconds: float) -> None:
        self._seen += 1
        self._n = self._n * _DECAY + 1.0
        self._nr = self._nr * _DECAY + rows
        self._nrr = self._nrr * _DECAY + rows * rows
        self._nt = self._nt * _DECAY + seconds
        self._nrt = self._nrt * _DECAY + rows * seconds
        if self._seen > 64 and self._seen % 16:
            return  # the fit moves slowly by now
        spread = self._n * self._nrr - self._nr * self._nr
        if spread > 1e-6 * self._n * self._nrr:
            self.per_row = max((self._n * self._nrt - self._nr * self._nt) / spread, 0.0)
            self.base = max((self._nt - self.per_row * self._nr) / self._n, 0.0)
            if not self.base:
                self.per_row = self._nt / self._nr
        else:
            # One size only: its mean is all that is known.
            self.per_row = 0.0
            self.base = self._nt / self._n

    def estimate(self, rows: int) -> float:
        """Seconds for one batch of ``rows``; 0 before the first observation."""
        return self.base + self.per_row * rows
