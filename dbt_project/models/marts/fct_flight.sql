{{
    config(
        incremental_strategy='replace_partitions',
        partition_by='flight_month',
    )
}}

select
    flight_id,
    carrier,
    flight_number,
    tail_number,
    origin,
    destination,
    flight_date,
    flight_month,
    departure_hour_local,
    scheduled_hour_utc,
    scheduled_departure_utc,
    departed_at_utc,
    departure_delay_minutes,
    arrival_known_at_utc,
    arrival_delay_minutes,
    arrival_delay_minutes > 15 as arrived_late,
    distance_miles,
    ingested_at_utc
from {{ ref('stg_flights') }}
{% if is_incremental() %}
    where
        flight_month in (
            {{ changed_partitions(
                ref('stg_flights'), 'flight_date', 'ingested_at_utc', "date_trunc('month', day)"
            ) }}
        )
{% endif %}
