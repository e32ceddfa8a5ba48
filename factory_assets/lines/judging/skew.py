"""Does training see the features that scoring saw?"""

from datetime import datetime

from factory_assets.core.pictures.quality_plots import plot_skew
from factory_assets.lines.judging.judgement import NEVER, Judgement, newest_feature_row
from factory_assets.lines.stores import LineStores


def judge_skew(stores: LineStores, now: datetime, run_id: str) -> Judgement:
    """Sampled rows of every scoring, as a training set would have them now, against the hashes that scoring left of them."""
    spec = stores.spec
    champion = stores.versions.champion(spec.name)
    sample = stores.feature_hashes.read_sample()
    compared, differing = 0, dict[str, int]()
    if sample.num_rows:
        compared, differing = stores.feature_hashes.compare(sample, stores.training_sets.read_at(sample, now))
    most = max(differing.values(), default=0)
    skewed = compared > 0 and most > spec.skew.max_share * compared
    named = ", ".join(f"{name} in {count:,}" for name, count in sorted(differing.items(), key=lambda d: (-d[1], d[0]))[:5])
    if not compared:
        summary = "Not judged: of no row that was scored with its features kept is the label known."
    elif not differing:
        summary = f"All {compared:,} sampled rows have the features in training that they had when they were scored."
    else:
        verdict = "differ" if skewed else "differ, within the limit"
        summary = f"Of {compared:,} sampled rows the features of training and scoring {verdict}: {named}."
    return Judgement(
        check="skew",
        passed=not skewed,
        summary=summary,
        champion_version=champion.version if champion else 0,
        data_as_of_utc=newest_feature_row(stores) or NEVER,
        picture=plot_skew(differing, compared),
        numbers={"compared_rows": compared, "differing_rows": differing, "judged": compared > 0},
    )
