select
    strftime(max(at_utc), '%Y-%m-%d') as day,
    line,
    list_sort(list_distinct(list(trigger))) as causes,
    replace(state, '_', ' ') as outcome,
    any_value(reason) as reason
from retrain_ledger
where state in ('promoted', 'kept_champion', 'failed', 'lost', 'expired')
group by line, run_key, state
order by max(sequence), max(step)
