select
    tailnum as tail_number,
    year as manufactured_year,
    type as plane_type,
    manufacturer,
    model,
    engines,
    seats,
    engine as engine_type
from {{ source('bronze', 'planes') }}
