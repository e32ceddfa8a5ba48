select
    tail_number,
    manufactured_year,
    plane_type,
    manufacturer,
    model,
    engines,
    seats,
    engine_type
from {{ ref('stg_planes') }}
