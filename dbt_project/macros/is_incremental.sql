{# dbt's own macro looks for tables, and ours are views over Delta; it is found in the root project alone. #}
{% macro is_incremental() %}
    {%- if not execute or model.config.materialized not in ['delta', 'incremental'] -%}
        {{ return(dbt.is_incremental()) }}
    {%- endif -%}
    {{ return(
        (config.get('incremental_strategy') is not none or model.config.materialized == 'incremental')
        and config.get('incremental_strategy') != 'overwrite'
        and not should_full_refresh()
        and not model.get('as_full_refresh')
        and load_cached_relation(this) is not none
        and delta_is_own(this)
    ) }}
{% endmacro %}


{# Whether a table lies where this target writes: in a sandbox, production's tables are for reading alone. #}
{% macro delta_is_own(relation) %}
    {%- set own -%}
        select count(*)
        from __lake.own_tables
        where table_schema = '{{ relation.schema }}' and table_name = '{{ relation.identifier }}'
    {%- endset -%}
    {{ return(run_query(own).rows[0][0] > 0) }}
{% endmacro %}
