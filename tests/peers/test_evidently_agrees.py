"""Drift values are those of Evidently on the same bins and the same data, real ones among them."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from factory_assets.core.drift import build_reference
from factory_assets.core.drift.frames import compare_frame
from factory_assets.core.drift.measures import Comparison, effect_sizes
from factory_assets.core.drift.significance import kolmogorov_p_values, pooled_chi_square_p_values
from tests.bronze_fixture import read_raw

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".cache" / "evidently" / "bin" / "python"
SCRIPT = Path(__file__).with_name("drift_by_evidently.py")
COLUMNS = ("hour", "distance", "dep_delay", "air_time", "carrier", "origin")


def ask(requests: list[dict[str, Any]]) -> list[float]:
    if not PYTHON.exists():
        pytest.fail(f"Evidently is not installed in {PYTHON.parents[1]}: run `make evidently`, which needs a package index")
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "DO_NOT_TRACK": "1"}
    done = subprocess.run(
        [str(PYTHON), str(SCRIPT)], input=json.dumps(requests), capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[float] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def flights() -> dict[str, tuple[pd.Series, pd.Series]]:
    """Columns of January's flights and of July's, without missing values, which Evidently leaves out.

    Without carriers rarer than one in a thousand flights: a share below one in ten thousand counts as that here, and as it
    is there.
    """
    months = read_raw("flights").to_pandas()
    months = months[months.groupby(["carrier", "month"])["hour"].transform("size") > 30]
    months = months[[*COLUMNS, "month"]].astype({"month": int, **dict.fromkeys(COLUMNS[:4], float)})
    return {
        name: tuple(months.loc[months["month"] == month, name].dropna().reset_index(drop=True) for month in (1, 7))
        for name in COLUMNS
    }  # type: ignore[misc]


def compare(before: pd.Series, after: pd.Series) -> Comparison:
    (found,) = compare_frame({"all": [build_reference("x", before)]}, pd.DataFrame({"x": after}))
    return found


def request(test: str, before: Any, after: Any) -> dict[str, Any]:
    kind = "num" if np.asarray(before).dtype.kind in "if" else "cat"
    return {"test": test, "kind": kind, "reference": list(before), "current": list(after)}


def in_bins(found: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """Each row as the number of its bin: the data as the factory has binned it."""
    counts = [side[0].astype(int) for side in found.coarse()]
    return tuple(np.repeat(np.arange(len(side)), side) for side in counts)  # type: ignore[return-value]


def test_psi_and_jensen_shannon_of_the_same_bins(flights: Any) -> None:
    found = {name: compare(*sides) for name, sides in flights.items()}
    requests = [
        request(test, *(side.astype(str) for side in in_bins(one)))
        for one in found.values()
        for test in ("psi", "jensenshannon")
    ]
    theirs = ask(requests)
    ours = [float(effect_sizes(one, m)[0]) for one in found.values() for m in ("psi", "jensen_shannon")]
    assert ours == pytest.approx(theirs, rel=1e-9)
    assert max(theirs) > 0.05


def test_psi_and_jensen_shannon_of_text_with_no_binning_of_ours(flights: Any) -> None:
    pairs = [flights["carrier"], flights["origin"]]
    requests = [request(test, *pair) for pair in pairs for test in ("psi", "jensenshannon")]
    ours = [float(effect_sizes(compare(*pair), m)[0]) for pair in pairs for m in ("psi", "jensen_shannon")]
    assert ours == pytest.approx(ask(requests), rel=1e-9)


def test_wasserstein_of_the_same_rows(flights: Any) -> None:
    """Exact where every value is a cell of its own; else within two hundredths of a deviation, by two hundred cells."""
    names = COLUMNS[:4]
    theirs = ask([request("wasserstein", *flights[name]) for name in names])
    ours = [float(effect_sizes(compare(*flights[name]), "wasserstein")[0]) for name in names]
    assert ours[0] == pytest.approx(theirs[0], rel=1e-9)
    assert ours == pytest.approx(theirs, abs=0.02)


def test_p_values_of_kolmogorov_and_smirnov_of_the_same_values() -> None:
    random = np.random.default_rng(0)
    pairs = [(random.poisson(4, 3000) * 1.0, random.poisson(4 + shift, 800) * 1.0) for shift in (0.0, 0.1, 0.2, 0.4)]
    theirs = ask([request("ks", *pair) for pair in pairs])
    for (before, after), expected in zip(pairs, theirs, strict=True):
        found = compare(pd.Series(before), pd.Series(after))
        ours = kolmogorov_p_values(found.reference, found.current, np.ones(1))[0]
        assert np.log(ours) == pytest.approx(np.log(expected), rel=0.05, abs=0.05)


def test_p_values_of_chi_square_where_the_reference_is_much_larger() -> None:
    """Evidently takes the reference's shares for certain; with five hundred times the rows they nearly are."""
    random = np.random.default_rng(0)
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    shifted = np.array([0.43, 0.3, 0.18, 0.09])
    pairs = [
        (random.choice(list("abcd"), 400_000, p=shares), random.choice(list("abcd"), 800, p=p)) for p in (shares, shifted)
    ]
    theirs = ask([request("chisquare", *pair) for pair in pairs])
    for (before, after), expected in zip(pairs, theirs, strict=True):
        found = compare(pd.Series(before), pd.Series(after))
        ours = pooled_chi_square_p_values(*found.coarse(), np.ones(1))[0]
        assert np.log(ours) == pytest.approx(np.log(expected), rel=0.05, abs=0.05)
