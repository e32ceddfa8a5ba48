select
    strftime(at_utc, '%Y-%m-%d') as day,
    line,
    list_sort(
        list_distinct(list_transform(causes, lambda cause: coalesce(nullif(split_part(cause, '/', 2), ''), cause)))
    ) as causes,
    replace(state, '_', ' ') as outcome,
    reason
from retrain_ledger
where state <> 'requested'
order by at_utc, recorded_at_utc, line
