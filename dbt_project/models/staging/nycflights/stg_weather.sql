{{
    config(
        incremental_strategy='merge',
        unique_key=['origin', 'observed_at_utc'],
    )
}}

select
    origin,
    time_hour as observed_at_utc,
    time_hour + interval '1 hour' as usable_from_utc,
    temp as temperature_fahrenheit,
    dewp as dew_point_fahrenheit,
    humid as relative_humidity_percent,
    cast(wind_dir as double) as wind_direction_degrees,
    wind_speed as wind_speed_mph,
    wind_gust as wind_gust_mph,
    precip as precipitation_inches,
    pressure as pressure_millibars,
    visib as visibility_miles,
    _ingested_at_utc as ingested_at_utc
from {{ source('bronze', 'weather') }} as observations
{% if is_incremental() %}
    where
        not exists (
            select 1
            from {{ this }} as known
            where
                known.origin = observations.origin
                and known.observed_at_utc = observations.time_hour
                and known.ingested_at_utc = observations._ingested_at_utc
        )
{% endif %}
