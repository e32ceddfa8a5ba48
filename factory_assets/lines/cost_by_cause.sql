with runs as (
    select distinct
        run_id,
        run_key
    from retrain_ledger
    where run_id <> '' and run_key <> ''
),

spent as (
    select
        c.line,
        coalesce(nullif(c.run_key, ''), r.run_key) as run_key,
        c.segment,
        sum(c.cpu_seconds + c.overhead_cpu_seconds) as cpu_seconds,
        sum(c.price) as price
    from costs as c
    left join runs as r using (run_id)
    where c.line <> '' and coalesce(nullif(c.run_key, ''), r.run_key) is not null
    group by all
),

served as (
    select distinct
        line,
        run_key,
        cause,
        segment,
        trigger
    from retrain_ledger
    where state in ('requested', 'running')
),

-- A segment's own costs are its causes'; what the run did for nobody in particular is shared by all that it served.
shared as (
    select
        s.line,
        v.cause,
        v.segment,
        v.trigger,
        s.run_key,
        s.cpu_seconds / count(*) over (partition by s.line, s.run_key, s.segment) as cpu_seconds,
        s.price / count(*) over (partition by s.line, s.run_key, s.segment) as price
    from spent as s
    inner join served as v using (line, run_key)
    where
        v.segment = s.segment
        or s.segment not in (select o.segment from served as o where o.line = s.line and o.run_key = s.run_key)
)

select
    line,
    segment,
    trigger,
    cause,
    count(distinct run_key) as attempts,
    sum(cpu_seconds) as cpu_seconds,
    sum(price) as price
from shared
group by line, segment, trigger, cause
order by price desc, cpu_seconds desc, cause
