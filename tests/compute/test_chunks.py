from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from factory_assets.compute.chunks import Backlog, plan_chunks

costs = st.lists(st.floats(0, 1e6), max_size=300)


@given(costs, st.integers(1, 8), st.integers(1, 64))
def test_every_item_is_in_one_chunk_and_the_dearest_come_first(prices, workers, max_items) -> None:
    items = list(enumerate(prices))
    chunks = plan_chunks(items, lambda item: item[1], workers, max_items)
    assert Counter(item for chunk in chunks for item in chunk) == Counter(items)
    assert all(0 < len(chunk) <= max_items for chunk in chunks)
    flat = [price for chunk in chunks for _, price in chunk]
    assert flat == sorted(flat, reverse=True)


@given(costs, st.integers(1, 8))
def test_no_chunk_costs_more_than_its_share_but_one_that_cannot_be_parted(prices, workers) -> None:
    left = sum(sorted(prices, reverse=True))
    for chunk in plan_chunks(list(enumerate(prices)), lambda item: item[1], workers):
        cost = sum(price for _, price in chunk)
        assert len(chunk) == 1 or cost <= left / (4 * workers)
        left -= cost


def test_chunks_of_a_thousand_equal_items_become_smaller_down_to_one() -> None:
    sizes = [len(chunk) for chunk in plan_chunks(range(1000), lambda _: 1.0, workers=2)]
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (64, 1)
    assert len(sizes) < 60


@given(st.integers(1, 70), st.data(), st.booleans())
def test_the_guilty_item_is_found_alone_and_every_other_gets_its_result(size, data, speaks) -> None:
    """Plays workers that die at one item, having told of the items before it or of none."""
    guilty = data.draw(st.integers(0, size - 1))
    backlog, finished, lost, deaths = Backlog.of([range(size)]), [], [], 0
    while backlog.waiting:
        attempt = backlog.waiting.popleft()
        if guilty not in attempt.items:
            finished += attempt.items
            continue
        deaths += 1
        done = attempt.items.index(guilty) if speaks else 0
        finished += attempt.items[:done]
        lost += [found.item for found in backlog.put_back(attempt, done, "killed")]
    assert lost == [guilty]
    assert sorted([*finished, guilty]) == list(range(size))
    assert deaths <= 2 + size.bit_length()


def test_one_death_is_forgiven() -> None:
    backlog = Backlog.of([["a", "b"]])
    assert list(backlog.put_back(backlog.waiting.popleft(), 0, "killed")) == []
    assert [attempt.items for attempt in backlog.waiting] == [("a", "b")]
