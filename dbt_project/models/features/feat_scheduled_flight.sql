with departures as (
    select * from {{ ref('feat_flight_departure') }}
),

flights as (
    select
        flight_id,
        flight_number
    from {{ ref('fct_flight') }}
)

select
    departures.flight_id,
    departures.scheduled_departure_utc,
    departures.carrier,
    flights.flight_number,
    departures.origin,
    departures.destination,
    departures.departure_hour_local,
    departures.day_of_week,
    departures.scheduled_departures_in_hour,
    departures.origin_departures_last_2h,
    departures.origin_departure_delay_last_2h_minutes,
    departures.carrier_late_share_28d,
    departures.route_late_share_28d,
    departures.temperature_fahrenheit,
    departures.wind_speed_mph,
    departures.visibility_miles,
    departures.precipitation_inches
from departures
inner join flights
    on departures.flight_id = flights.flight_id
