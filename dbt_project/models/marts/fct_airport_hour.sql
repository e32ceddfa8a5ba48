with flights as (
    select * from {{ ref('fct_flight') }}
),

-- Every hour of the schedule has a row, also when nothing departs: rows that appear only because something departed
-- would tell of the departure.
hours as (
    select
        origin,
        unnest(generate_series(min(scheduled_hour_utc), max(scheduled_hour_utc), interval '1 hour')) as hour_start_utc
    from flights
    group by origin
),

scheduled as (
    select
        origin,
        scheduled_hour_utc as hour_start_utc,
        count(*) as scheduled_departures
    from flights
    group by origin, scheduled_hour_utc
),

departed as (
    select
        origin,
        date_trunc('hour', departed_at_utc) as hour_start_utc,
        count(*) as actual_departures,
        cast(sum(departure_delay_minutes) as bigint) as departure_delay_minutes_total
    from flights
    where departed_at_utc is not null
    group by all
)

select
    hours.origin,
    hours.hour_start_utc,
    hours.hour_start_utc + interval '1 hour' as hour_end_utc,
    coalesce(scheduled.scheduled_departures, 0) as scheduled_departures,
    coalesce(departed.actual_departures, 0) as actual_departures,
    coalesce(departed.departure_delay_minutes_total, 0) as departure_delay_minutes_total
from hours
left join scheduled
    on hours.origin = scheduled.origin and hours.hour_start_utc = scheduled.hour_start_utc
left join departed
    on hours.origin = departed.origin and hours.hour_start_utc = departed.hour_start_utc
