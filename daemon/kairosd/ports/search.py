"""The index that search asks, and what a run may do with memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # what a search takes is loaded with the index
    from kairosd.core.search import Found, Layer, Passage, Question


class Index(Protocol):
    """A derived index of passages. All methods block: call them in a thread. All raise `StoreError`."""

    def put(
        self,
        passages: Iterable[Passage],
        marks: Mapping[str, str],
        *,
        over: Mapping[str, str] | None = None,
        whole: Collection[str] = (),
    ) -> bool:
        """Adds passages, in place of those with the same source, and remembers `marks`, in one transaction.

        Of the threads that are `whole`, the passages are all there is: others of them go. False, and nothing is
        changed, where the marks are not `over` any more: somebody else writes too.
        """

    def replace(self, layer: Layer, passages: Iterable[Passage], *, marks: Mapping[str, str]) -> None:
        """Makes `passages`, which stand alone, all that there is of `layer`; those that are there stay untouched."""

    def drop(self, sources: Sequence[str]) -> int:
        """Takes passages out; how many there were. Their neighbours keep no word of them."""

    def drop_threads(self, threads: Sequence[str]) -> None:
        """Takes whole threads out."""

    def purge(self) -> None:
        """Leaves no word in the index's files of what is in it no more."""

    def saying(self, layers: Collection[Layer], says: Callable[[Passage], bool]) -> list[str]:
        """The sources of those passages of `layers` that `says` holds of; every one is looked at."""

    def marks(self) -> dict[str, str]:
        """What was remembered with the passages: how far each source of them has been read."""

    def counts(self) -> dict[str, int]:
        """Passages by layer."""

    def clear(self) -> None:
        """Forgets everything."""

    def search(self, question: Question, *, today: date) -> Sequence[Found]:
        """The best answers, best first; `today` is the local day that "yesterday" is understood by."""

    def close(self) -> None:
        """Closes the file; the next call opens it again."""
