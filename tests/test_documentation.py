import hashlib
import importlib.util
import os
import re
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from filelock import FileLock
from pydantic import BaseModel, TypeAdapter

from benchmarks.figures import PAGE, render_page
from factory_assets.contracts.alerts import AlertsSpec
from factory_assets.contracts.backtest import BacktestReport
from factory_assets.contracts.budget import RetrainBudgetSpec
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.costs import Cost, Usage, Work
from factory_assets.contracts.declarations import read_declaration
from factory_assets.contracts.fleet import NodeDecision
from factory_assets.contracts.maintenance import MaintenanceSpec
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.model_versions import ModelVersion
from factory_assets.contracts.paybacks import Gain, Payback, Replacement
from factory_assets.contracts.reports import Evaluation
from factory_assets.contracts.retraining import Cause, LedgerEntry
from factory_assets.contracts.source import SourceSpec
from factory_assets.core.backtesting.report_text import COLUMNS, list_cells
from factory_assets.core.models.artefacts import unpickle_model
from factory_assets.core.training.time_split import check_rows, cut_by_time
from factory_assets.demo.plan import FULL
from factory_assets.lines.summary import list_retrains, read_sql, summarise
from factory_assets.processes import own_data_folder
from factory_assets.settings import FactorySettings
from factory_assets.storage.artefact_store import ArtefactStore
from factory_assets.storage.delta.lake import Lake, TableSpec
from factory_assets.storage.landing import find_files
from factory_assets.storage.tables.alerts import ALERTS
from factory_assets.storage.tables.batch_profiles import BATCH_PROFILES
from factory_assets.storage.tables.bronze import QUARANTINE, BronzeWriter
from factory_assets.storage.tables.check_results import CHECK_RESULTS
from factory_assets.storage.tables.costs import COSTS, Costs
from factory_assets.storage.tables.drift_references import DRIFT_REFERENCES
from factory_assets.storage.tables.drift_results import DRIFT_RESULTS
from factory_assets.storage.tables.feature_hashes import FEATURE_HASHES
from factory_assets.storage.tables.incidents import INCIDENTS
from factory_assets.storage.tables.ingested_files import INGESTED_FILES
from factory_assets.storage.tables.model_versions import MODEL_VERSIONS, PROMOTIONS, ModelVersions
from factory_assets.storage.tables.paybacks import PAYBACKS, Paybacks
from factory_assets.storage.tables.retrain_ledger import RETRAIN_LEDGER, RetrainLedger
from factory_assets.storage.tables.training_cycles import TRAINING_CYCLES
from tests.recorded import decide

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DECLARATION = "factory_assets/defs/model_lines/arrival_delay/defs.yaml"
RECOMPUTE = DOCS / "how-to" / "recompute-the-demo-table.md"
LINES = ["arrival_delay", "departure_volume", "flight_delay_fleet"]
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), ROOT / "data" / "README.md"])
SPECS: dict[str, type[BaseModel]] = {
    "ModelLine": ModelLineSpec,
    "DeltaSource": SourceSpec,
    "Calendar": CalendarSpec,
    "Maintenance": MaintenanceSpec,
    "Alerts": AlertsSpec,
    "RetrainBudget": RetrainBudgetSpec,
}
NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of one language, with the indentation of their fence taken away."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", text_of(path), re.MULTILINE | re.DOTALL)
    return ["".join(line.removeprefix(indent) for line in body.splitlines(keepends=True)) for indent, body in found]


# --- What the pages say is what the code has ---


def test_the_readme_shows_the_declaration_as_it_is() -> None:
    assert blocks(ROOT / "README.md", "yaml") == [text_of(ROOT / DECLARATION)]


@pytest.mark.parametrize("name", ["summary", "retrains"])
def test_the_queries_of_the_table_are_given_as_they_are(name: str) -> None:
    assert read_sql(name) in blocks(RECOMPUTE, "sql")


def test_the_query_of_costs_by_cause_is_given_as_it_is() -> None:
    assert read_sql("cost_by_cause") in blocks(DOCS / "how-to" / "costs.md", "sql")


def test_the_demo_table_has_its_place_and_the_columns_that_status_prints() -> None:
    table = text_of(ROOT / "README.md").partition("<!-- demo-table -->")[2].partition("<!-- /demo-table -->")[0]
    for column in ("line", "segments", "champion", "metric", "baseline", "predictions", "checks ok / failed", "retrains"):
        assert column in table
    for line in LINES:
        assert line in table


def test_the_page_of_figures_is_that_of_the_results() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_page()


def test_the_readme_tells_of_the_days_that_the_demo_plays() -> None:
    readme = " ".join(text_of(ROOT / "README.md").split())
    assert "from 1 January to 23 July 2013" in readme
    assert "120 days of history, then six fortnights" in readme
    assert (FULL.history.first, FULL.slices[-1].last) == (date(2013, 1, 1), date(2013, 7, 23))
    assert [(days.last - days.first).days + 1 for days in (FULL.history, *FULL.slices)] == [120, *[14] * 6]


def render_table(report: BacktestReport) -> str:
    """The table as plain text: columns two blanks apart, numbers to the right."""
    rows = [COLUMNS, *list_cells(report)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    lines = []
    for row in rows:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([first.strip().ljust(widths[0]), *rest]).rstrip())
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "report", sorted((ROOT / "benchmarks" / "results" / "backtest").glob("*.json")), ids=lambda f: f.stem
)
def test_the_backtests_of_the_readme_are_those_that_were_computed(report: Path) -> None:
    found = TypeAdapter(BacktestReport).validate_json(text_of(report))
    told = text_of(ROOT / "README.md").partition("<!-- backtest -->")[2].partition("<!-- /backtest -->")[0]
    assert f"`{found.line}`, {found.metric} on {found.rows:,} rows, first trained at the end of {found.first}:" in told
    assert render_table(found) in told
    assert (DOCS / "pictures" / f"backtest_{found.line}.png").is_file()


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_reference", DOCS / "generate_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def generator() -> Iterator[Any]:
    yield load_generator()
    del sys.modules["generate_reference"]


def test_the_reference_is_up_to_date(generator: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert generator.main(["--check"]) == 0, capsys.readouterr().err


def test_an_outdated_reference_is_found_and_written_again(
    generator: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generator, "FOLDER", tmp_path)
    assert generator.main(["--check"]) == 1
    assert "model-line.md" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0


def test_the_reference_names_every_key_and_its_default(generator: Any) -> None:
    page = generator.render(generator.PAGES[0])
    for row in (
        "| `drift.window` | span of time | `7d` |",
        "| `validation.min_rows` | whole number (at least 20) | `200` |",
        "| `entity` | list, each column (at least 1) | **required** |",
        "| `retrain.triggers` | list, each a trigger or a rule |",
        "| `retrain.triggers.<rule>.action` | one of `retrain`, `alert_only` |",
    ):
        assert row in page
    for name in ModelLineSpec.model_fields:
        assert f"| `{name}` |" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_declarations_in_the_pages_are_sound(page: Path) -> None:
    for block in blocks(page, "yaml"):
        kind = re.match(r"type: factory_assets\.components\.(\w+)\n", block)
        assert kind is not None, block
        read_declaration(block, page.name, 0, SPECS[kind[1]])


def test_every_setting_is_documented() -> None:
    page = text_of(DOCS / "how-to" / "settings.md")
    profile = text_of(ROOT / "dbt_project" / "profiles.yml")
    names = {f"FACTORY_{name.upper()}" for name in FactorySettings.model_fields}
    names |= set(re.findall(r"env_var\('(FACTORY_\w+)'", profile))
    assert names == set(re.findall(r"^\| `(FACTORY_\w+)`", page, re.MULTILINE))


@pytest.mark.parametrize(
    "table",
    [
        QUARANTINE,
        INGESTED_FILES,
        BATCH_PROFILES,
        INCIDENTS,
        ALERTS,
        MODEL_VERSIONS,
        PROMOTIONS,
        CHECK_RESULTS,
        DRIFT_REFERENCES,
        DRIFT_RESULTS,
        FEATURE_HASHES,
        RETRAIN_LEDGER,
        PAYBACKS,
        COSTS,
    ],
    ids=lambda table: table.name,
)
def test_the_factorys_own_tables_are_listed_with_their_keys(table: TableSpec) -> None:
    row = re.search(rf"^\| `{table.name}` \| `([^`]+)` \| (.*?) \|", text_of(DOCS / "architecture.md"), re.MULTILINE)
    assert row is not None
    assert (ROOT / "factory_assets" / row[1]).is_file()
    assert row[2] == ", ".join(f"`{key}`" for key in table.keys)


def test_the_architecture_lists_the_layers_in_the_order_that_is_enforced() -> None:
    enforced = re.findall(r'^    "factory_assets\.(\w+)",$', text_of(ROOT / "pyproject.toml"), re.MULTILINE)
    (listed,) = (block for block in blocks(DOCS / "architecture.md", "text") if "contracts" in block)
    names = (re.match(r"\w+(, \w+)*", line) for line in listed.splitlines())
    assert [layer for name in names if name for layer in name[0].split(", ")] == enforced


def test_decisions_have_a_number_each_and_their_four_parts() -> None:
    pages = sorted((DOCS / "decisions").glob("*.md"))
    numbers = [int(page.name[:4]) for page in pages]
    assert len(numbers) == len(set(numbers))
    for page in pages:
        text = text_of(page)
        assert text.startswith(f"# {page.name[:4]} ")
        for part in ("**Context.**", "**Decision.**", "**Rejected.**", "**Consequence.**"):
            assert part in text, (page.name, part)


def test_the_index_leads_to_every_page() -> None:
    linked = {target for _, target in links(DOCS / "README.md")}
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md") if page != DOCS / "README.md"}
    assert pages <= linked


# --- Links ---


def links(page: Path) -> list[tuple[str, str]]:
    text = re.sub(
        r"```.*?```|`[^`\n]*`", lambda code: "" if code[0].startswith("```") else "code", text_of(page), flags=re.DOTALL
    )
    return re.findall(r"\[([^\]]*)\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_resolve(page: Path) -> None:
    for _, target in links(page):
        if urllib.parse.urlsplit(target).scheme:
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), target
        assert place.is_relative_to(ROOT), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", text_of(place), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, target


# --- The table of the demo, recomputed ---


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    """A small lake with the six tables of a line that has lived; with TEST_DEMO_DATA, the lake of a demo."""
    played = os.environ.get("TEST_DEMO_DATA")
    if played:
        return Path(played)
    lake = Lake(str(tmp_path / "lake"))
    versions = ModelVersions(lake)
    for number, value in ((1, 0.71), (2, 0.78), (3, 0.74)):
        versions.record([a_version(number, value)])
        decide(versions, a_version(number, value), promote=number != 3)
    lake.replace(TRAINING_CYCLES, TRAINING_CYCLES.schema.empty_table())
    verdict = {"line": "arrival_delay", "champion_version": 1, "evaluated_at_utc": NOON}
    verdicts = [{**verdict, "check": f"check_{number}", "passed": number > 0} for number in range(4)]
    lake.upsert(CHECK_RESULTS, rows(CHECK_RESULTS, verdicts))
    ledger = [
        *(
            ledger_step(state, 1, trigger)
            for state in ("requested", "promoted")
            for trigger in ("feature_drift", "model_age")
        ),
        ledger_step("failed", 2, "feature_drift"),
        ledger_step("kept_champion", 3, "by_hand"),
    ]
    assert RetrainLedger(lake).write(ledger, 0)
    replaced = Replacement("all", 2, "all", 1, NOON)
    gain = Gain("roc_auc", 500, 14, 0.78, 0.71, 0.07, 0.02, 0.12, 0.01, "paid", "Paid: so it did.")
    Paybacks(lake).record("arrival_delay", [Payback(replaced, NOON, gain, NOON)])
    work = Work("run", "arrival_delay__models", "models", "arrival_delay/models", "arrival_delay", "arrival_delay:1:1")
    Costs(lake).record([Cost(work, "all", Usage(3.0, 1.0, 5.0, 1, 1, 1), 0.01, NOON)])
    scores = TableSpec("predictions/arrival_delay", pa.schema([("flight_id", pa.string())]), ("flight_id",))
    lake.replace(scores, pa.table({"flight_id": [f"f{n}" for n in range(1234)]}))
    lake.replace(scores, pa.table({"flight_id": ["f0"]}), "flight_id = 'f0'")
    lake.replace(
        QUARANTINE, rows(QUARANTINE, [{"source": "flights", "partition_date": date(2013, 5, 1), "file": "f", "row": "{}"}])
    )
    return tmp_path


def rows(table: TableSpec, values: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(values, schema=table.schema)


def ledger_step(state: Any, day: int, trigger: str) -> LedgerEntry:
    at = NOON + timedelta(days=day)
    cause = Cause("arrival_delay", "all", trigger, day, NOON)
    key = f"arrival_delay:{day}:1"
    return LedgerEntry(cause, state, at, at, str(state), run_key=key, run_id="run", outcome_version=day + 1)


def a_version(number: int, value: float) -> ModelVersion:
    evaluation = Evaluation("roc_auc", 100, {"roc_auc": value}, {"roc_auc": 0.5}, {"roc_auc": 0.7})
    values: dict[str, Any] = dict.fromkeys(ModelVersion.__dataclass_fields__, "")
    values |= dict.fromkeys([name for name in values if name.endswith("_utc")], NOON)
    values |= dict.fromkeys([name for name in values if name.endswith("_version")], 0)
    values |= dict.fromkeys(["numeric", "categorical"], ())
    values |= {"line": "arrival_delay", "segment": "all", "version": number, "cycle": f"cycle {number}"}
    return ModelVersion(**{**values, "evaluation": evaluation, "sklearn_version": "1.9"})


def run_block(page: Path, position: int, data: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("FACTORY_DATA_DIR", str(data))
    names: dict[str, Any] = {"__name__": "documented"}
    exec(compile(blocks(page, "python")[position], page.name, "exec"), names)
    return names


def test_the_documented_snippet_gives_the_numbers_that_the_command_prints(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run_block(RECOMPUTE, 0, data_folder, monkeypatch)
    lake = Lake(str(data_folder / "lake"))
    assert names["summary"] == [vars(line) for line in summarise(lake, LINES)]
    assert names["retrains"] == [{**vars(retrain), "causes": list(retrain.causes)} for retrain in list_retrains(lake)]
    assert capsys.readouterr().out.count("\n") == len(names["summary"]) + len(names["retrains"])


def test_the_small_lake_has_the_numbers_it_was_given(data_folder: Path) -> None:
    if os.environ.get("TEST_DEMO_DATA"):
        pytest.skip("the lake of a demo")
    lake = Lake(str(data_folder / "lake"))
    line, silent, _ = summarise(lake, LINES)
    assert (line.champion_version, line.metric, line.value, line.baseline_value) == (2, "roc_auc", 0.78, 0.7)
    assert (line.predictions, line.checks_passed, line.checks_failed, line.retrains) == (1234, 3, 1, 2)
    assert (silent.champion_version, silent.predictions, silent.retrains) == (None, 0, 0)
    assert [retrain.causes for retrain in list_retrains(lake)] == [
        ("feature_drift", "model_age"),
        ("feature_drift",),
        ("by_hand",),
    ]


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("costs.md", "['feature_drift', 'model_age']"),
        ("why-was-this-retrained.md", "promoted promoted paid\n"),
        ("why-was-this-retrained.md", "kept_champion kept_champion nothing to judge\n"),
        ("when-something-breaks.md", "flights"),
    ],
)
def test_the_other_snippets_run(
    page: str, said: str, data_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_block(DOCS / "how-to" / page, 0, data_folder, monkeypatch)
    printed = capsys.readouterr().out
    assert printed
    assert os.environ.get("TEST_DEMO_DATA") or said in printed


# --- The errors that are quoted ---

GATES = {
    "name": "gates",
    "landing": "gates/{partition}*.csv",
    "partitions": "daily",
    "keys": ["flight_id"],
    "columns": {
        "flight_id": {"type": "string", "required": True},
        "gate": {"type": "string"},
        "walk_minutes": {"type": "bigint", "maximum": 120},
    },
}


def ingest(landed: str) -> Callable[[Path], object]:
    def act(folder: Path) -> object:
        file = folder / "landing" / "gates" / "2013-05-01.csv"
        file.parent.mkdir(parents=True)
        file.write_text(landed)
        spec = SourceSpec.model_validate(GATES)
        return BronzeWriter(Lake(str(folder / "lake")), spec).ingest(
            find_files(folder / "landing", spec, ["2013-05-01"]), NOON
        )

    return act


def declare(old: str, new: str) -> Callable[[Path], object]:
    text = text_of(ROOT / DECLARATION)
    assert old in text
    return lambda folder: read_declaration(text.replace(old, new), DECLARATION, 0, ModelLineSpec)


def decide_too_late(folder: Path) -> object:
    versions = ModelVersions(Lake(str(folder / "lake")))
    before = versions.standing("arrival_delay")
    decision = NodeDecision("all", "fitted", True, True, "", 0.7, None, None)
    for number in (1, 2):
        versions.record([a_version(number, 0.7)])
        versions.decide(before, number, [(decision, "")], NOON, "run")
    return None


def train_on_little(folder: Path) -> object:
    moments = pd.to_datetime(["2013-01-01"] * 3, utc=True)
    rows = pa.Table.from_pandas(pd.DataFrame({"at": moments, "label": [0.0, 1.0, 0.0]}))
    return check_rows(cut_by_time(rows, "at", timedelta(days=14), None, datetime(2013, 2, 1, tzinfo=UTC), timedelta(0)), 200)


def own_a_folder_twice(folder: Path) -> object:
    settings = FactorySettings(data_dir=folder / "data")
    settings.data.mkdir()
    with FileLock(settings.data / "factory.lock"), own_data_folder(settings):
        return None


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(ingest("flight_id,gate,walk_minutes\nUA1,C7,900\nUA2,C8,5\n"), id="a day is held"),
        pytest.param(ingest("flight_id,gate\nUA1,C7\n"), id="another layout"),
        pytest.param(declare("threshold: 0.2", "threshhold: 0.2"), id="an unknown key"),
        pytest.param(declare("cooldown: 21d", "cooldown: 21"), id="not a span of time"),
        pytest.param(declare('"team:data-science"]\n', '"team:data-science"]\n  name: other\n'), id="a key given twice"),
        pytest.param(
            lambda folder: Lake(str(folder / "data/lake")).pin("features/feat_flight_departure"), id="no table yet"
        ),
        pytest.param(train_on_little, id="too few rows"),
        pytest.param(decide_too_late, id="two promotions met"),
        pytest.param(own_a_folder_twice, id="the data folder is taken"),
        pytest.param(
            lambda folder: ArtefactStore(folder / "data/models").open("arrival_delay/1f.bundle"), id="a model file is gone"
        ),
        pytest.param(
            lambda folder: unpickle_model(b"altered", hashlib.sha256(b"recorded").hexdigest()), id="a model file is altered"
        ),
    ],
)
def test_quoted_errors_are_those_that_are_raised(act: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011 (which one is the documentation's business)
        act(tmp_path)
    message = str(raised.value).replace(f"{tmp_path}/", "")
    quoted = [line for block in blocks(DOCS / "how-to" / "when-something-breaks.md", "text") for line in block.splitlines()]
    assert message in quoted
