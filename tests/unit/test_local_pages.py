"""Lists of the local API: any way through the pages sees every object once, in order."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from bot.local.tx import SCHEMA, Page, Tx

Order = Literal["asc", "desc"]


@contextmanager
def table(count: int) -> Iterator[Tx]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        tx = Tx(connection)
        for number in range(count):
            tx.insert("message", {"id": f"m{number}"}, parent="t", tag="even" if number % 2 == 0 else "odd")
            tx.insert("message", {"id": f"other{number}"}, parent="u")
            tx.insert("run", {"id": f"r{number}"}, parent="t")
        yield tx


@given(count=st.integers(0, 30), limit=st.integers(1, 12), order=st.sampled_from(["asc", "desc"]))
def test_following_after_sees_everything_once(count: int, limit: int, order: Order) -> None:
    with table(count) as tx:
        seen: list[str] = []
        more, after = True, None
        while more:
            bodies, more = tx.page("message", Page(limit, order, after=after), parent="t")
            assert len(bodies) <= limit
            seen += [body["id"] for body in bodies]
            after = seen[-1] if seen else None
        expected = [f"m{number}" for number in range(count)]
        assert seen == (expected if order == "asc" else expected[::-1])


@given(
    count=st.integers(1, 30), limit=st.integers(1, 12), order=st.sampled_from(["asc", "desc"]), data=st.data()
)
def test_before_is_the_page_that_ends_just_there(
    count: int, limit: int, order: Order, data: st.DataObject
) -> None:
    listed = [f"m{number}" for number in range(count)]
    listed = listed if order == "asc" else listed[::-1]
    place = data.draw(st.integers(0, count - 1))
    with table(count) as tx:
        bodies, more = tx.page("message", Page(limit, order, before=listed[place]), parent="t")
    assert [body["id"] for body in bodies] == listed[max(0, place - limit) : place]
    assert more == (place > limit)


@given(count=st.integers(2, 30), order=st.sampled_from(["asc", "desc"]), data=st.data())
def test_after_and_before_together_are_what_lies_between(
    count: int, order: Order, data: st.DataObject
) -> None:
    listed = [f"m{number}" for number in range(count)]
    listed = listed if order == "asc" else listed[::-1]
    first = data.draw(st.integers(0, count - 2))
    last = data.draw(st.integers(first + 1, count - 1))
    with table(count) as tx:
        page = Page(100, order, after=listed[first], before=listed[last])
        bodies, more = tx.page("message", page, parent="t")
    assert [body["id"] for body in bodies] == listed[first + 1 : last]
    assert not more


def test_a_tag_filters() -> None:
    with table(5) as tx:
        bodies, _ = tx.page("message", Page(order="asc"), parent="t", tag="odd")
        assert [body["id"] for body in bodies] == ["m1", "m3"]
