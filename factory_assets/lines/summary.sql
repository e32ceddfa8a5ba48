with champions as (
    select
        line,
        segment,
        max_by(version, sequence) filter (promoted) as version
    from promotions
    group by all
    having max_by(serves, sequence)
),

serving as (
    select
        c.line,
        count(*) as segments,
        max(m.version) as champion_version,
        any_value(m.metric) as metric,
        any_value(m.value) filter (c.segment = 'all') as value,
        any_value(m.baseline_value) filter (c.segment = 'all') as baseline_value
    from champions as c
    inner join model_versions as m using (line, segment, version)
    group by c.line
),

fleets as (
    select
        line,
        max_by(fleet_value, sequence) as value,
        max_by(global_value, sequence) as global_value
    from training_cycles
    where fleet_value is not null
    group by line
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
    coalesce(f.value, s.value) as value,
    coalesce(f.global_value, s.baseline_value) as baseline_value,
    p.predictions,
    coalesce(v.checks_passed, 0) as checks_passed,
    coalesce(v.checks_failed, 0) as checks_failed,
    coalesce(r.retrains, 0) as retrains
from lines as l
inner join prediction_counts as p using (line)
left join serving as s using (line)
left join fleets as f using (line)
left join verdicts as v using (line)
left join retrains as r using (line)
order by l.line
