{#
    Subquery of the partitions whose rows differ between `upstream` and this model's table, for incremental models that
    replace whole partitions. Days are compared by their number of rows and the instant they were last ingested, not by
    a watermark, so that late, corrected and removed rows reopen exactly their own partition. A partition that lost all
    its rows keeps the old ones until --full-refresh, because no new row names it.

    upstream         relation that the model is built from
    upstream_day     its expression for the day
    upstream_stamp   its column for the instant of ingestion
    partition        SQL of the partition, as a function of `day`
#}
{% macro changed_partitions(upstream, upstream_day, upstream_stamp, partition) %}
    select distinct {{ partition }}
    from (
        select
            {{ upstream_day }} as day,
            count(*) as row_count,
            max({{ upstream_stamp }}) as stamp
        from {{ upstream }}
        group by all
    ) as upstream_days
    full join (
        select
            flight_date as day,
            count(*) as row_count,
            max(ingested_at_utc) as stamp
        from {{ this }}
        group by all
    ) as own_days
        using (day)
    where
        upstream_days.row_count is distinct from own_days.row_count
        or upstream_days.stamp is distinct from own_days.stamp
{% endmacro %}
