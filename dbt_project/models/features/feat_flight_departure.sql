with flights as (
    select
        flight_id,
        carrier,
        tail_number,
        origin,
        destination,
        flight_date,
        departure_hour_local,
        scheduled_hour_utc,
        scheduled_departure_utc,
        distance_miles
    from {{ ref('fct_flight') }}
),

-- Outcomes by the local day on which they became known. A flight uses the days before its own, so each was known when
-- the day began.
outcomes as (
    select
        carrier,
        origin,
        destination,
        cast(timezone('America/New_York', arrival_known_at_utc) as date) as known_date,
        count(*) as arrivals,
        count(*) filter (where arrived_late) as late_arrivals
    from {{ ref('fct_flight') }}
    where arrived_late is not null
    group by all
),

carrier_outcomes as (
    select
        carrier,
        known_date,
        sum(arrivals) as arrivals,
        sum(late_arrivals) as late_arrivals
    from outcomes
    group by carrier, known_date
),

route_outcomes as (
    select
        origin,
        destination,
        known_date,
        sum(arrivals) as arrivals,
        sum(late_arrivals) as late_arrivals
    from outcomes
    group by origin, destination, known_date
),

carrier_days as (
    select distinct
        carrier,
        flight_date
    from flights
),

carrier_history as (
    select
        carrier_days.carrier,
        carrier_days.flight_date,
        cast(sum(carrier_outcomes.late_arrivals) as double)
        / cast(sum(carrier_outcomes.arrivals) as double) as late_share
    from carrier_days
    inner join carrier_outcomes
        on
            carrier_days.carrier = carrier_outcomes.carrier
            and carrier_outcomes.known_date between carrier_days.flight_date - 28 and carrier_days.flight_date - 1
    group by carrier_days.carrier, carrier_days.flight_date
),

route_days as (
    select distinct
        origin,
        destination,
        flight_date
    from flights
),

route_history as (
    select
        route_days.origin,
        route_days.destination,
        route_days.flight_date,
        cast(sum(route_outcomes.late_arrivals) as double)
        / cast(sum(route_outcomes.arrivals) as double) as late_share
    from route_days
    inner join route_outcomes
        on
            route_days.origin = route_outcomes.origin
            and route_days.destination = route_outcomes.destination
            and route_outcomes.known_date between route_days.flight_date - 28 and route_days.flight_date - 1
    group by route_days.origin, route_days.destination, route_days.flight_date
),

hours as (
    select * from {{ ref('fct_airport_hour') }}
),

-- The two complete hours before the hour of departure: all their departures lie before the as-of moment.
recent_traffic as (
    select
        hours.origin,
        hours.hour_start_utc,
        hours.scheduled_departures,
        -- Two joins: one on either hour would pair every hour of an airport with every other.
        previous.actual_departures + before_previous.actual_departures as departures,
        previous.departure_delay_minutes_total + before_previous.departure_delay_minutes_total as delay_minutes
    from hours
    left join hours as previous
        on hours.origin = previous.origin and hours.hour_start_utc - interval '1 hour' = previous.hour_start_utc
    left join hours as before_previous
        on
            hours.origin = before_previous.origin
            and hours.hour_start_utc - interval '2 hours' = before_previous.hour_start_utc
),

weather as (
    select * from {{ ref('stg_weather') }}
),

departure_weather as (
    select
        flights.flight_id,
        weather.observed_at_utc,
        weather.temperature_fahrenheit,
        weather.wind_speed_mph,
        weather.visibility_miles,
        weather.precipitation_inches
    from flights
    asof inner join weather
        on
            flights.origin = weather.origin
            and flights.scheduled_departure_utc >= weather.usable_from_utc
)

select
    flights.flight_id,
    flights.scheduled_departure_utc,
    flights.carrier,
    flights.origin,
    flights.destination,
    cast(flights.departure_hour_local as double) as departure_hour_local,
    cast(isodow(flights.flight_date) as double) as day_of_week,
    cast(flights.distance_miles as double) as distance_miles,
    cast(year(flights.flight_date) - planes.manufactured_year as double) as plane_age_years,
    cast(planes.seats as double) as plane_seats,
    planes.engine_type as plane_engine_type,
    cast(recent_traffic.scheduled_departures as double) as scheduled_departures_in_hour,
    cast(recent_traffic.departures as double) as origin_departures_last_2h,
    cast(recent_traffic.delay_minutes as double)
    / cast(nullif(recent_traffic.departures, 0) as double) as origin_departure_delay_last_2h_minutes,
    carrier_history.late_share as carrier_late_share_28d,
    route_history.late_share as route_late_share_28d,
    departure_weather.temperature_fahrenheit,
    departure_weather.wind_speed_mph,
    departure_weather.visibility_miles,
    departure_weather.precipitation_inches,
    cast(epoch(flights.scheduled_departure_utc - departure_weather.observed_at_utc) as double)
    / 3600 as weather_age_hours
from flights
left join {{ ref('dim_plane') }} as planes
    on flights.tail_number = planes.tail_number
left join recent_traffic
    on flights.origin = recent_traffic.origin and flights.scheduled_hour_utc = recent_traffic.hour_start_utc
left join carrier_history
    on flights.carrier = carrier_history.carrier and flights.flight_date = carrier_history.flight_date
left join route_history
    on
        flights.origin = route_history.origin
        and flights.destination = route_history.destination
        and flights.flight_date = route_history.flight_date
left join departure_weather
    on flights.flight_id = departure_weather.flight_id
