# ruff: noqa: E501 (a table of edits is read by its lines)
"""What counts as an edit of a query's meaning, and which of its columns it affects."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlglot.dialects.duckdb import DuckDB

from factory_assets.core.transformations.query_meaning import KnownTable, QueryMeaning, SqlNotUnderstoodError, read_meaning

TABLES = {
    "marts.flight": KnownTable(("id", "carrier", "origin", "day", "delay", "seats"), (frozenset({"id"}),)),
    "marts.plane": KnownTable(("tail", "seats", "year"), (frozenset({"tail"}),)),
    "marts.hour": KnownTable(("origin", "at", "n"), ()),
    "bronze.raw": KnownTable(),
}

QUERY = """
with flights as (
    select * from marts.flight
),

late as (
    select carrier, day, count(*) filter (where delay > 15) as late, count(*) as n
    from flights
    where delay is not null and origin <> 'XXX'
    group by carrier, day
),

history as (
    select f.carrier, f.day, cast(sum(late.late) as double) / cast(sum(late.n) as double) as share
    from (select distinct carrier, day from flights) as f
    inner join late on f.carrier = late.carrier and late.day between f.day - 28 and f.day - 1
    group by f.carrier, f.day
),

unused as (select 1 as one)

select
    flights.id,
    flights.carrier,
    flights.delay + 1 as delay_plus,
    coalesce(planes.seats, 0) as seats,
    history.share,
    hours.n
from flights
left join marts.plane as planes on flights.id = planes.tail
left join history on flights.carrier = history.carrier and flights.day = history.day
asof left join marts.hour as hours on flights.origin = hours.origin and flights.day >= hours.at
where flights.delay < 1000 or flights.delay is null
"""


def meaning(sql: str) -> QueryMeaning:
    return read_meaning(sql, TABLES)


def difference(old: str, new: str) -> set[str] | str:
    """The columns that differ, or "rows"."""
    before, after = meaning(old), meaning(new)
    if before.rows != after.rows:
        return "rows"
    names = {*before.columns, *after.columns}
    return {name for name in names if before.columns.get(name) != after.columns.get(name)}


def edit(old: str, new: str) -> str:
    assert QUERY.count(old) >= 1, old
    return QUERY.replace(old, new)


def relaid(sql: str, seed: int) -> str:
    """The same tokens with other white space, comments and case of what is no literal."""
    chance = random.Random(seed)
    gaps = (" ", "\n", "\t  ", " /* a, b from c */ ", " -- where 1 = 0\n")
    parts = []
    for token in DuckDB().tokenize(sql):
        text = sql[token.start : token.end + 1]
        if not text.startswith("'"):
            text = chance.choice((text, text.upper(), text.title()))
        parts.append(text)
    return "".join(part + chance.choice(gaps) for part in parts)


@given(st.integers(0, 10_000))
def test_layout_comments_and_case_change_nothing(seed: int) -> None:
    assert meaning(relaid(QUERY, seed)) == meaning(QUERY)


REWRITTEN = {
    "an alias of a table": (
        "as planes on flights.id = planes.tail",
        "as p on flights.id = p.tail",
        ("planes.seats", "p.seats"),
    ),
    "a name of a CTE": ("history as (", "past as (", ("left join history", "left join past"), ("history.", "past.")),
    "redundant brackets": ("flights.delay + 1", "((flights.delay) + (1))"),
    "the order of conditions": ("delay is not null and origin <> 'XXX'", "origin <> 'XXX' and delay is not null"),
    "the sides of an equality": ("flights.id = planes.tail", "planes.tail = flights.id"),
    "a CTE that nothing reads": ("unused as (select 1 as one)", "unused as (select 2 as two)"),
    "another way to write a cast": ("cast(sum(late.n) as double)", "sum(late.n)::double"),
    "another way to write unequal": ("origin <> 'XXX'", "origin != 'XXX'"),
    "inner, which is the default": ("inner join late", "join late"),
    "outer, which says nothing": ("left join history", "left outer join history"),
    "the key of a group by its number": ("group by f.carrier, f.day", "group by 2, 1"),
    "group by all for its keys": ("group by carrier, day", "group by all"),
    "an alias within a CTE": ("as late, count(*) as n", "as much, count(*) as n", ("late.late", "late.much")),
    "the order within a CTE": ("select carrier, day, count(*)", "select day, carrier, count(*)"),
    "a star that is written out": (
        "select * from marts.flight",
        "select id, carrier, origin, day, delay, seats from marts.flight",
    ),
    "the order of the finished table": ("or flights.delay is null\n", "or flights.delay is null order by 1\n"),
}


@pytest.mark.parametrize("replacements", REWRITTEN.values(), ids=REWRITTEN)
def test_another_way_to_write_it_changes_nothing(replacements: tuple[object, ...]) -> None:
    first, second, *others = replacements
    sql = edit(str(first), str(second))
    for old, new in others:  # type: ignore[misc]
        assert old in sql
        sql = sql.replace(old, new)
    assert difference(QUERY, sql) == set()


def test_the_order_of_ctes_changes_nothing() -> None:
    one, two = "a as (select id from marts.flight)", "b as (select tail from marts.plane)"
    rest = " select a.id, b.tail from a join b on a.id = b.tail"
    assert meaning(f"with {one}, {two}{rest}") == meaning(f"with {two}, {one}{rest}")


SEEN = {
    "a constant": ("flights.delay + 1", "flights.delay + 2", {"delay_plus"}),
    "another column": ("flights.delay + 1", "flights.seats + 1", {"delay_plus"}),
    "a default": ("coalesce(planes.seats, 0)", "coalesce(planes.seats, 1)", {"seats"}),
    "the type of a constant": ("flights.delay + 1", "flights.delay + 1.0", {"delay_plus"}),
    "the case of a text": ("'XXX'", "'xxx'", {"share"}),
    "a condition of what is looked up": ("flights.day = history.day", "flights.day - 1 = history.day", {"share"}),
    "a window of history": ("f.day - 28", "f.day - 14", {"share"}),
    "a filter of an aggregate": ("delay > 15", "delay >= 15", {"share"}),
    "a filter within a CTE": ("delay is not null and ", "", {"share"}),
    "the moment of an ASOF join": ("flights.day >= hours.at", "flights.day > hours.at", {"n"}),
    "a new column": ("    hours.n\n", "    hours.n,\n    flights.day\n", {"day"}),
    "a column that is gone": ("    history.share,\n", "", {"share"}),
    "a new name": ("as delay_plus", "as delay_more", {"delay_plus", "delay_more"}),
    "a table that is looked up": ("left join marts.plane as planes", "left join (from marts.plane where year > 0) as planes", {"seats"}),
    "a filter": ("flights.delay < 1000", "flights.delay < 999", "rows"),
    "a filter that is gone": ("where flights.delay < 1000 or flights.delay is null", "", "rows"),
    "a left join made inner": ("left join marts.plane", "inner join marts.plane", "rows"),
    "a join on no key": ("flights.id = planes.tail", "flights.seats = planes.seats", "rows"),
    "an ASOF join that drops rows": ("asof left join", "asof join", "rows"),
    "a limit": ("or flights.delay is null\n", "or flights.delay is null limit 10\n", "rows"),
    "a choice of rows": ("or flights.delay is null\n", "or flights.delay is null qualify row_number() over () = 1\n", "rows"),
    "distinct rows": ("select\n    flights.id", "select distinct\n    flights.id", "rows"),
    "the source": ("from marts.flight", "from bronze.raw", "rows"),
    "an unnest": ("    hours.n\n", "    unnest([1, 2]) as n\n", "rows"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "seen"), SEEN.values(), ids=SEEN)
def test_an_edit_of_the_meaning_is_seen_with_the_columns_it_affects(old: str, new: str, seen: set[str] | str) -> None:
    assert difference(QUERY, edit(old, new)) == seen


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("select a.x from t a join t b on a.k = b.k", "select b.x from t a join t b on a.k = b.k"),
        ("select sum(x) as s from t", "select sum(distinct x) as s from t"),
        ("select x from t union all select y from u", "select x from t union select y from u"),
        ("select x from t except select x from u", "select x from u except select x from t"),
        ("select first(x order by y) as f from t", "select first(x order by y desc) as f from t"),
        ("select sum(x) over (order by y) as s from t", "select sum(x) over (order by z) as s from t"),
        ("select list_transform(l, v -> v + 1) as l from t", "select list_transform(l, v -> v + 2) as l from t"),
        ("select x from t where x in (select y from u)", "select x from t where x in (select z from u)"),
        ("select x from t where exists (from u where u.k = t.k)", "select x from t where exists (from u where u.k = t.j)"),
        ("select x from t group by x, y", "select x from t group by x"),
        ("select x from t group by rollup (x)", "select x from t group by cube (x)"),
        ("select * exclude (a) from t", "select * exclude (b) from t"),
        ("select * replace (a + 1 as a) from t", "select * replace (a + 2 as a) from t"),
        ("select columns('a.*') from t", "select columns('b.*') from t"),
        ("select * from (pivot t on a using sum(b))", "select * from (pivot t on a using max(b))"),
        ("select x from read_parquet('a')", "select x from read_parquet('b')"),
        ("with recursive r as (select 1 as n union all select n + 1 from r where n < 5) select n from r",
         "with recursive r as (select 1 as n union all select n + 1 from r where n < 6) select n from r"),
        ("select x from t tablesample 10%", "select x from t tablesample 20%"),
        ("select x from (select * from t order by y limit 3)", "select x from (select * from t order by z limit 3)"),
        ("select count(*) as n from t", "select 1 as n from t"),
        ("select x from t, (values (1), (2)) as v(y)", "select x from t, (values (1), (3)) as v(y)"),
        ("select x as a, y as b from t union all select a, b from u", "select x as a, y as b from t union all select b, a from u"),
        ("select s.a.b as x from t as s", "select s.a.c as x from t as s"),
        ("select x from t join u using (k)", "select x from t join u using (j)"),
        ("select m.v from (select b.v from t a join t b on a.k = b.k) m join t n on true",
         "select n.v from (select b.v from t a join t b on a.k = b.k) m join t n on true"),
        ("select sum(x) over w as s from t window w as (order by y)", "select sum(x) over w as s from t window w as (order by z)"),
        ("select j -> '$.Abc' as x from t", "select j -> '$.abc' as x from t"),
        ("select try_cast(x as int) as x from t", "select cast(x as int) as x from t"),
        ("select distinct on (a) a, b from t order by a, b", "select distinct on (a) a, b from t order by a, c"),
    ],
)  # fmt: skip
def test_dialects_of_doubt_are_told_apart(old: str, new: str) -> None:
    assert meaning(old) == meaning(old)
    assert meaning(old).fingerprint != meaning(new).fingerprint


def test_values_and_rows_have_their_own_sources() -> None:
    columns = meaning(QUERY).columns
    assert columns["delay_plus"].values_from == {("marts.flight", "delay")}
    assert columns["delay_plus"].rows_from == set()
    assert columns["seats"].values_from == {("marts.plane", "seats")}
    assert columns["seats"].rows_from == {("marts.plane", ""), ("marts.plane", "tail"), ("marts.flight", "id")}
    assert ("marts.flight", "delay") in columns["share"].rows_from
    assert meaning(QUERY).rows_from == {("marts.flight", ""), ("marts.flight", "delay")}


def test_a_star_over_an_unknown_table_lets_its_columns_through() -> None:
    found = meaning("with r as (select *, a + 1 as b from bronze.raw) select a, b, c as d from r")
    assert {name: set(column.values_from) for name, column in found.columns.items()} == {
        "a": {("bronze.raw", "a")},
        "b": {("bronze.raw", "a")},
        "d": {("bronze.raw", "c")},
    }
    assert meaning("select * from bronze.raw").is_open


@pytest.mark.parametrize("sql", ["select from where", "select 1; select 2", "drop table t", "pivot t on a using sum(b)", ""])
def test_what_is_no_query_is_refused(sql: str) -> None:
    with pytest.raises(SqlNotUnderstoodError):
        meaning(sql)
