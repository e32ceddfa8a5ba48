{#
    Writes a model to the Delta table <lake>/<schema>/<model>. Settings:

    incremental_strategy   none: the whole table is overwritten.
                           append: the new rows are added.
                           merge: rows of equal `unique_key` (nulls are equal) are updated, others inserted.
                           delete+insert: as merge, but a key may be there several times, before and after.
                           replace_partitions: every partition (`partition_by`) that the new rows touch is replaced.
                           microbatch: rows whose `event_time` lies in the batch are replaced (materialized='incremental').
    unique_key             column or list of columns, for merge and delete+insert.
    partition_by           column or list of columns that the table is partitioned by.
    on_schema_change       fail (also where it is not given), ignore, append_new_columns or sync_all_columns.
    contract               enforced: names and types before the write, not_null and check while it runs.
#}
{% materialization delta, adapter='duckdb', supported_languages=['sql'] %}
    {%- set target_relation = this.incorporate(type='view') -%}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {%- set write_request = delta_write_request() -%}
    {%- do adapter.store_relation('delta_lake', target_relation, [], '', 'delta', write_request) -%}
    {%- set written = write_request['result'] -%}

    {%- set message = 'STAGED ' ~ written['rows'] ~ ' rows on v' ~ written['base_version'] -%}
    {% call noop_statement('main', message, 'DELTA', written['rows']) -%}
        {{ write_request['sql'] }}
    {%- endcall %}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}

    {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}


{# What the plugin needs to know of this model; it puts the version and the number of rows into `result`. #}
{% macro delta_write_request() %}
    {%- set contract = config.get('contract') -%}
    {%- set not_null = [] -%}
    {%- set checks = [] -%}
    {%- set query = compiled_code -%}
    {%- if contract and contract.enforced -%}
        {{ get_assert_columns_equivalent(query) }}
        {%- set query = get_select_subquery(query) -%}
        {%- for column in model['columns'].values() -%}
            {%- for constraint in column['constraints'] -%}
                {%- do delta_add_constraint(constraint, [column['name']], not_null, checks) -%}
            {%- endfor -%}
        {%- endfor -%}
        {%- for constraint in model['constraints'] -%}
            {%- do delta_add_constraint(constraint, constraint.columns, not_null, checks) -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return({
        'node': model['unique_id'],
        'sql': query,
        'strategy': config.get('incremental_strategy'),
        'default_strategy': 'append' if model.config.materialized == 'incremental' and not config.get('unique_key') else none,
        'is_incremental': is_incremental(),
        'unique_key': config.get('unique_key'),
        'partition_by': config.get('partition_by'),
        'on_schema_change': config.get('on_schema_change') if 'on_schema_change' in model['unrendered_config'] else none,
        'event_time': config.get('event_time'),
        'batch': model.get('batch'),
        'is_full_refresh': should_full_refresh(),
        'unsupported': {
            'incremental_predicates': config.get('incremental_predicates'),
            'predicates': config.get('predicates'),
            'merge_update_columns': config.get('merge_update_columns'),
            'merge_exclude_columns': config.get('merge_exclude_columns'),
        },
        'not_null': not_null,
        'checks': checks,
        'query': delta_published_query(),
        'result': {},
    }) }}
{% endmacro %}


{% macro delta_add_constraint(constraint, columns, not_null, checks) %}
    {%- if constraint.type == 'not_null' -%}
        {%- do not_null.extend(columns) -%}
    {%- elif constraint.type == 'check' -%}
        {%- do checks.append(constraint.expression) -%}
    {%- else -%}
        {%- do exceptions.raise_compiler_error(
            'constraint ' ~ constraint.type ~ ' of ' ~ model['name'] ~ ' cannot be enforced while a Delta table is '
            ~ 'written: use a data test instead'
        ) -%}
    {%- endif -%}
{% endmacro %}


{#
    dbt runs a model in batches only when it is called `incremental`, so microbatch has to be asked for by that name. It is
    the same materialization; without strategy and unique_key it appends, as elsewhere in dbt.
#}
{% materialization incremental, adapter='duckdb', supported_languages=['sql'] %}
    {{ return(materialization_delta_duckdb()) }}
{% endmaterialization %}
