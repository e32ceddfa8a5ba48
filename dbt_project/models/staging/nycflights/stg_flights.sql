{{
    config(
        incremental_strategy='replace_partitions',
        partition_by='flight_month',
    )
}}

with scheduled as (
    select
        *,
        time_hour + to_minutes(minute) as scheduled_departure_utc
    from {{ source('bronze', 'flights') }}
    {% if is_incremental() %}
        where
            date_trunc('month', partition_date) in (
                {{ changed_partitions(
                    source('bronze', 'flights'), 'partition_date', '_ingested_at_utc', "date_trunc('month', day)"
                ) }}
            )
    {% endif %}
)

select
    concat_ws(
        '-', carrier, flight, origin, dest, strftime(timezone('UTC', scheduled_departure_utc), '%Y%m%d%H%M')
    ) as flight_id,
    carrier,
    flight as flight_number,
    tailnum as tail_number,
    origin,
    dest as destination,
    partition_date as flight_date,
    cast(date_trunc('month', partition_date) as date) as flight_month,
    time_hour as scheduled_hour_utc,
    scheduled_departure_utc,
    hour as departure_hour_local,
    dep_delay as departure_delay_minutes,
    scheduled_departure_utc + to_minutes(dep_delay) as departed_at_utc,
    arr_delay as arrival_delay_minutes,
    air_time as air_time_minutes,
    scheduled_departure_utc + to_minutes(dep_delay + air_time + 240) as arrival_known_at_utc,
    distance as distance_miles,
    _ingested_at_utc as ingested_at_utc
from scheduled
