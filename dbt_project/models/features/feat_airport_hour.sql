with hours as (
    select * from {{ ref('fct_airport_hour') }}
),

weather as (
    select * from {{ ref('stg_weather') }}
),

hour_weather as (
    select
        hours.origin,
        hours.hour_start_utc,
        weather.observed_at_utc,
        weather.temperature_fahrenheit,
        weather.wind_speed_mph,
        weather.visibility_miles,
        weather.precipitation_inches
    from hours
    asof inner join weather
        on
            hours.origin = weather.origin
            and hours.hour_start_utc >= weather.usable_from_utc
)

select
    hours.origin,
    hours.hour_start_utc,
    hours.origin as airport,
    cast(hour(timezone('America/New_York', hours.hour_start_utc)) as double) as hour_local,
    cast(isodow(timezone('America/New_York', hours.hour_start_utc)) as double) as day_of_week,
    cast(hours.scheduled_departures as double) as scheduled_departures_in_hour,
    cast(previous.scheduled_departures as double) as scheduled_departures_previous_hour,
    cast(previous.actual_departures as double) as departures_previous_hour,
    cast(before_previous.actual_departures as double) as departures_hour_before_previous,
    cast(previous.departure_delay_minutes_total as double)
    / cast(nullif(previous.actual_departures, 0) as double) as departure_delay_previous_hour_minutes,
    cast(last_week.actual_departures as double) as departures_same_hour_last_week,
    hour_weather.temperature_fahrenheit,
    hour_weather.wind_speed_mph,
    hour_weather.visibility_miles,
    hour_weather.precipitation_inches,
    cast(epoch(hours.hour_start_utc - hour_weather.observed_at_utc) as double) / 3600 as weather_age_hours
from hours
left join hours as previous
    on hours.origin = previous.origin and hours.hour_start_utc - interval '1 hour' = previous.hour_start_utc
left join hours as before_previous
    on
        hours.origin = before_previous.origin
        and hours.hour_start_utc - interval '2 hours' = before_previous.hour_start_utc
left join hours as last_week
    on hours.origin = last_week.origin and hours.hour_start_utc - interval '168 hours' = last_week.hour_start_utc
left join hour_weather
    on hours.origin = hour_weather.origin and hours.hour_start_utc = hour_weather.hour_start_utc
