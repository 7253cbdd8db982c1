"""A comparison's cells: where each is, and the record of the job that makes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.comparison.spec import Place
from app.jobs import JobRecord


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell with its job; None where the queue has forgotten it."""

    place: Place
    record: JobRecord | None

    @property
    def metrics(self) -> dict[str, float]:
        """The scores of its picture; none while it is not made."""
        return self.record.result.metrics if self.record and self.record.result else {}

    @property
    def nfe(self) -> int | None:
        """Network evaluations of its picture."""
        if self.record is None or self.record.result is None:
            return None
        return self.record.result.nfe.model + self.record.result.nfe.weak

    @property
    def nfe_shared(self) -> int:
        """Those among them that another cell had made already."""
        return self.record.result.nfe.shared if self.record and self.record.result else 0


def metric_names(cells: Sequence[Cell]) -> list[str]:
    """The metrics that any cell has, in the order found."""
    return list(dict.fromkeys(name for cell in cells for name in cell.metrics))
