{#- The column is the day that the clocks of `time_zone` showed at `instant`. #}
{% test is_local_date_of(model, column_name, instant, time_zone) %}
    select {{ column_name }}, {{ instant }}
    from {{ model }}
    where {{ column_name }} is distinct from cast(timezone('{{ time_zone }}', {{ instant }}) as date)
{% endtest %}
