{#
    Writes a snapshot to its Delta table (slowly changing dimension, type 2). dbt's own macros say what changed; the rows that
    end and those that begin are one merge on `dbt_scd_id`, so readers never see the one without the other.
#}
{% materialization snapshot, adapter='duckdb' %}
    {%- set target_relation = this.incorporate(type='view') -%}
    {%- set exists = delta_is_own(this) and load_cached_relation(this) is not none -%}
    {%- set strategy_macro = strategy_dispatch(config.get('strategy')) -%}
    {%- set strategy = strategy_macro(model, 'snapshotted_data', 'source_data', model['config'], exists) -%}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {%- if exists -%}
        {%- set columns = config.get('snapshot_table_column_names') or get_snapshot_table_column_names() -%}
        {%- do adapter.assert_valid_snapshot_target_given_strategy(target_relation, columns, strategy) -%}
        {%- set query = delta_snapshot_changes(strategy, target_relation, columns) -%}
        {%- do delta_store(target_relation, query, 'merge', columns.dbt_scd_id) -%}
    {%- else -%}
        {%- do delta_store(target_relation, build_snapshot_table(strategy, model['compiled_code']), none, none) -%}
    {%- endif -%}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}


{% macro delta_snapshot_changes(strategy, target_relation, columns) %}
    {%- set helpers = ['dbt_change_type', 'dbt_unique_key'] -%}
    {%- if strategy.unique_key is not string -%}
        {%- for key in strategy.unique_key -%}
            {%- do helpers.append('dbt_unique_key_' ~ loop.index) -%}
        {%- endfor -%}
        {%- do helpers.remove('dbt_unique_key') -%}
    {%- endif -%}
    with dbt_changes as (
        {{ snapshot_staging_table(strategy, model['compiled_code'], target_relation) }}
    )
    select ended.* replace (dbt_changes.{{ columns.dbt_valid_to }} as {{ columns.dbt_valid_to }})
    from {{ target_relation }} as ended
    inner join dbt_changes
        on ended.{{ columns.dbt_scd_id }} = dbt_changes.{{ columns.dbt_scd_id }}
    where dbt_changes.dbt_change_type in ('update', 'delete')
    union all by name
    select * exclude ({{ helpers | join(', ') }})
    from dbt_changes
    where dbt_change_type = 'insert'
{% endmacro %}
