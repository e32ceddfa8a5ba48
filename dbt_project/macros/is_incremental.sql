{# dbt's own macro knows the incremental materialization only, and is found in the root project alone. #}
{% macro is_incremental() %}
    {%- if not execute or model.config.materialized != 'delta' -%}
        {{ return(dbt.is_incremental()) }}
    {%- endif -%}
    {{ return(
        config.get('incremental_strategy') is not none
        and config.get('incremental_strategy') != 'overwrite'
        and not should_full_refresh()
        and not model.get('as_full_refresh')
        and load_cached_relation(this) is not none
    ) }}
{% endmacro %}
