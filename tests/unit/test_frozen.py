"""`@frozen` is `dataclass(frozen=True, slots=True)` in all that can be seen of it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kairosd.frozen import frozen


@frozen
class Ours:
    """A point."""

    name: str
    size: int = 1
    parts: tuple[object, ...] = ()
    secret: str = field(default="", repr=False)
    memo: list[int] = field(default_factory=list, compare=False)


@dataclass(frozen=True, slots=True)
class Theirs:
    """A point."""

    name: str
    size: int = 1
    parts: tuple[object, ...] = ()
    secret: str = field(default="", repr=False)
    memo: list[int] = field(default_factory=list, compare=False)


@frozen
class Child(Ours):
    more: str = "x"

    def __post_init__(self) -> None:
        object.__setattr__(self, "more", self.more.upper())


@frozen
class Named:
    name: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Named)

    def __hash__(self) -> int:
        return 7

    def __repr__(self) -> str:
        return "named"


@frozen
class Nothing:
    pass


words = st.sampled_from(["", "a", "b"])
arguments = st.tuples(
    words, st.integers(0, 1), st.lists(words, max_size=2).map(tuple), words, st.just([]) | st.just([1])
)


@given(arguments, arguments)
def test_equality_hash_and_words_are_those_of_a_dataclass(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert (Ours(*one) == Ours(*other)) == (Theirs(*one) == Theirs(*other))
    assert hash(Ours(*one)) == hash(Theirs(*one))
    assert repr(Ours(*one)).replace("Ours", "Theirs") == repr(Theirs(*one))
    assert asdict(Ours(*one)) == asdict(Theirs(*one))


def test_what_is_not_compared_and_not_shown_is_neither() -> None:
    assert Ours("a", memo=[1]) == Ours("a", memo=[2])
    assert "hunter2" not in repr(Ours("a", secret="hunter2"))


@pytest.mark.parametrize("change", [
    lambda one: setattr(one, "size", 2), lambda one: setattr(one, "other", 2), lambda one: delattr(one, "size"),
])  # fmt: skip
def test_nobody_changes_a_value(change: Callable[[Ours], None]) -> None:
    for one in (Ours("a"), Child("a")):
        with pytest.raises(FrozenInstanceError):
            change(one)
    assert not hasattr(Ours("a"), "__dict__")


def test_the_tools_of_dataclasses_work_on_it() -> None:
    one = replace(Ours("a"), size=3)
    assert (one.name, one.size) == ("a", 3)
    assert [each.name for each in fields(Ours)] == ["name", "size", "parts", "secret", "memo"]
    assert pickle.loads(pickle.dumps(one)) == one
    assert copy.deepcopy(one) == one
    assert Ours.__doc__ == "A point."
    match one:
        case Ours(name, size):
            assert (name, size) == ("a", 3)


def test_a_class_below_another_has_the_fields_of_both() -> None:
    assert repr(Child("a", more="y")) == "Child(name='a', size=1, parts=(), memo=[], more='Y')"
    assert Child("a") != Ours("a")
    assert Child("a", more="y") != Child("a")


def test_a_method_of_its_own_is_kept() -> None:
    assert Named("a") == Named("b")
    assert (hash(Named("a")), repr(Named("a"))) == (7, "named")


def test_what_cannot_be_hashed_and_what_holds_itself_are_said_so() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(Ours("a", parts=([],)))
    ring: list[object] = []
    ring.append(Ours("a", parts=(ring,)))
    assert "..." in repr(ring)
    assert Nothing() == Nothing()
    assert repr(Nothing()) == "Nothing()"
