"""scpatch's named tuples are those of `typing`."""

from __future__ import annotations

import copy
import inspect
import pickle
import sys
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scpatch import tuples
from tests.tools import ROOT

if TYPE_CHECKING:
    from tests.nowhere import Unknown  # type: ignore[import-not-found]

T = TypeVar("T")


class Ours(tuples.NamedTuple):
    """A class."""

    name: str
    size: int = 0
    """In bytes."""
    others: tuple[Unknown, ...] = ()

    @property
    def double(self) -> int:
        return 2 * self.size


class Theirs(typing.NamedTuple):
    """A class."""

    name: str
    size: int = 0
    """In bytes."""
    others: tuple[Unknown, ...] = ()

    @property
    def double(self) -> int:
        return 2 * self.size


class OursOf(tuples.NamedTuple, Generic[T]):
    """Of any type."""

    items: list[T]


class TheirsOf(typing.NamedTuple, Generic[T]):
    """Of any type."""

    items: list[T]


BOTH = [(Ours, Theirs), (OursOf, TheirsOf)]


@pytest.mark.parametrize(("ours", "theirs"), BOTH)
def test_the_classes_are_alike(ours: Any, theirs: Any) -> None:
    for name in ("_fields", "_field_defaults", "__match_args__", "__slots__", "__doc__"):
        assert getattr(ours, name, None) == getattr(theirs, name, None), name
    assert ours.__bases__ == theirs.__bases__
    assert ours.__orig_bases__[1:] == theirs.__orig_bases__[1:]
    assert type(ours) is type(theirs) is type
    assert list(ours.__annotations__) == list(theirs.__annotations__)
    parameters = [inspect.signature(kind).parameters.values() for kind in (ours, theirs)]
    first, second = ([(p.name, p.kind, p.default) for p in part] for part in parameters)
    assert first == second


CALLS: list[Callable[[Any], object]] = [
    lambda kind: kind("a"),
    lambda kind: kind("a", 1, ("b",)),
    lambda kind: kind(size=3, name="a"),
    lambda kind: kind("a", 2).double,
    lambda kind: kind("a", 2).others,
    lambda kind: kind._make(["a", 1, ()]),
    lambda kind: kind._make(iter("ab")),
    lambda kind: kind("a")._replace(size=5),
    lambda kind: kind("a")._asdict(),
    lambda kind: kind("a") == kind("a", 0, ()) == ("a", 0, ()),
    lambda kind: hash(kind("a")),
    lambda kind: kind("a", 4)[1:],
    lambda kind: copy.copy(kind("a", 4)),
    lambda kind: pickle.loads(pickle.dumps(kind("a", 4))),
    lambda kind: kind(),
    lambda kind: kind("a", 1, (), 2),
    lambda kind: kind("a", none=2),
    lambda kind: kind("a", name="b"),
    lambda kind: kind("a").__dict__,
    lambda kind: setattr(kind("a"), "name", "b"),
    lambda kind: setattr(kind("a"), "new", "b"),
    lambda kind: Ours.__eq__(kind("a"), Theirs("a")),
]


@pytest.mark.parametrize("call", CALLS)
def test_they_do_the_same(call: Callable[[Any], object]) -> None:
    def outcome(kind: type) -> str:
        try:
            value = call(kind)
        except Exception as error:
            value = f"{type(error).__name__}: {error}"
        assert type(value) is not Ours or kind is Ours
        return repr(value).replace("Theirs", "Ours")

    assert outcome(Ours) == outcome(Theirs)


def test_a_field_that_is_none() -> None:
    """Python 3.13 raises TypeError."""
    with pytest.raises(ValueError, match=r"Got unexpected field names: \['nothing'\]"):
        Ours("a")._replace(nothing=5)  # type: ignore[call-arg]


@given(st.lists(st.tuples(st.from_regex("[a-z]{3,8}x", fullmatch=True), st.booleans()), min_size=1))
def test_any_fields(given_fields: list[tuple[str, bool]]) -> None:
    """Those with a default after those without one, or an error."""
    fields = dict(given_fields)
    namespace = {name: f"of {name}" for name, default in fields.items() if default}
    annotations = dict.fromkeys(fields, "int")

    def made(base: Any) -> Any:
        body = {"__annotations__": annotations, "__module__": __name__, **namespace}
        bases = base.__mro_entries__((base,))
        return type(bases[0])("Made", bases, body)

    try:
        theirs = made(typing.NamedTuple)
    except TypeError:
        with pytest.raises(TypeError, match="a field without a default follows"):
            made(tuples.NamedTuple)
        return
    ours = made(tuples.NamedTuple)
    values = [name.upper() for name in fields]
    assert repr(ours(*values)) == repr(theirs(*values))
    assert ours(**dict(zip(fields, values, strict=True))) == tuple(values)
    assert [getattr(ours(*values), name) for name in fields] == values
    needed = [value for value, default in zip(values, fields.values(), strict=True) if not default]
    assert ours(*needed) == theirs(*needed)


def test_all_but_the_verifier_use_them() -> None:
    """Those of `typing` take longer. The verifier shares no code with the rest."""
    files = [path for path in (ROOT / "scpatch").rglob("*.py") if "NamedTuple" in path.read_text()]
    by_typing = [path for path in files if "from scpatch.tuples import" not in path.read_text()]
    assert {path.relative_to(ROOT / "scpatch").parts[0] for path in by_typing} == {
        *("tuples.py", "verifier")
    }
    assert len(files) - len(by_typing) > 50


def test_typing_is_not_needed() -> None:
    """Before Python 3.14."""
    assert (tuples.NamedTuple is typing.NamedTuple) is (sys.version_info >= (3, 14))
