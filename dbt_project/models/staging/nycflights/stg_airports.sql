select
    faa as airport,
    name as airport_name,
    lat as latitude_degrees,
    lon as longitude_degrees,
    alt as altitude_feet,
    tzone as time_zone
from {{ source('bronze', 'airports') }}
