with champions as (
    select line, segment, max_by(version, sequence) as version
    from promotions
    where promoted
    group by all
),

serving as (
    select
        c.line,
        count(*) as segments,
        max(m.version) as champion_version,
        any_value(m.metric) as metric,
        avg(m.value) as value,
        avg(m.baseline_value) as baseline_value
    from champions as c
    inner join model_versions as m using (line, segment, version)
    group by c.line
),

verdicts as (
    select
        line,
        count(*) filter (passed) as checks_passed,
        count(*) filter (not passed) as checks_failed
    from check_results
    group by line
),

retrains as (
    select
        line,
        count(distinct run_key) as retrains
    from retrain_ledger
    where state in ('promoted', 'kept_champion')
    group by line
)

select
    l.line,
    coalesce(s.segments, 0) as segments,
    s.champion_version,
    s.metric,
    s.value,
    s.baseline_value,
    p.predictions,
    coalesce(v.checks_passed, 0) as checks_passed,
    coalesce(v.checks_failed, 0) as checks_failed,
    coalesce(r.retrains, 0) as retrains
from lines as l
inner join prediction_counts as p using (line)
left join serving as s using (line)
left join verdicts as v using (line)
left join retrains as r using (line)
order by l.line
