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
    table_properties       Delta's own (delta.appendOnly, delta.dataSkipping...), or names of one's own without that prefix.
    target_file_size_mb    about how large a file gets when rows are written and when the table is compacted.
    z_order                column or list of columns that the rows are clustered by when the table is compacted.
    persist_docs           relation: the description of the table; columns: the comments of its columns.
    contract               enforced: names and types before the write, not_null and check while it runs.
#}
{% materialization delta, adapter='duckdb', supported_languages=['sql', 'python'] %}
    {#- dbt runs Python for a statement that is a materialization's own, and for no macro's. -#}
    {%- if model['language'] == 'python' -%}
        {%- call statement('python_rows', language='python') -%}{{ delta_python_code() }}{%- endcall -%}
    {%- endif -%}
    {{ return(delta_build()) }}
{% endmaterialization %}


{# Stages the model; with a Python model, the rows that it has returned. #}
{% macro delta_build() %}
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
    {%- if model['language'] == 'python' -%}
        {%- do run_query('drop table if exists ' ~ delta_python_table()) -%}
    {%- endif -%}

    {{ return({'relations': [target_relation]}) }}
{% endmacro %}


{# Where the rows of a Python model are until they are written; in memory, and spilled like any table of DuckDB's. #}
{% macro delta_python_table() -%}
    {{ return('__lake."python ' ~ model['unique_id'] ~ '"') }}
{%- endmacro %}


{% macro delta_python_code() -%}
{{ compiled_code }}


def materialize(df, con):
    from factory_assets.storage.dbt.python_rows import keep_rows
    keep_rows(df, con, '{{ delta_python_table() }}')
{% endmacro %}


{# What the plugin needs to know of this model; it puts the version and the number of rows into `result`. #}
{% macro delta_write_request() %}
    {%- set contract = config.get('contract') -%}
    {%- set not_null = [] -%}
    {%- set checks = [] -%}
    {%- set query = 'select * from ' ~ delta_python_table() if model['language'] == 'python' else compiled_code -%}
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
    {%- set request = {
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
    } -%}
    {%- do request.update(delta_table_metadata()) -%}
    {{ return(request) }}
{% endmacro %}


{# What the table says beside its rows; descriptions only as far as `persist_docs` asks for them. #}
{% macro delta_table_metadata() %}
    {%- set comments = {} -%}
    {%- for column in model['columns'].values() -%}
        {%- do comments.update({column['name']: column['description'] or ''}) -%}
    {%- endfor -%}
    {{ return({
        'description': (model['description'] or '') if config.persist_relation_docs() else none,
        'comments': comments if config.persist_column_docs() else none,
        'table_properties': config.get('table_properties'),
        'target_file_size_mb': config.get('target_file_size_mb'),
        'z_order': config.get('z_order'),
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
{% materialization incremental, adapter='duckdb', supported_languages=['sql', 'python'] %}
    {%- if model['language'] == 'python' -%}
        {%- call statement('python_rows', language='python') -%}{{ delta_python_code() }}{%- endcall -%}
    {%- endif -%}
    {{ return(delta_build()) }}
{% endmaterialization %}
