{# Writes a seed to its Delta table, as a model is: staged, audited by its tests, published. #}
{% materialization seed, adapter='duckdb' %}
    {%- set target_relation = this.incorporate(type='view') -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {# dbt shows it with --show, and does without it in no case. #}
    {%- do store_result('agate_table', response='OK', agate_table=load_agate_table()) -%}
    {%- do delta_store(target_relation, delta_seed_query(), none, none) -%}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}


{# The rows of the file; an empty field is null. `column_types` of the seed's config go before what DuckDB finds. #}
{% macro delta_seed_query() %}
    {%- set types = [] -%}
    {%- for column, type in (config.get('column_types') or {}).items() -%}
        {%- do types.append(delta_text(column) ~ ': ' ~ delta_text(type)) -%}
    {%- endfor -%}
    select *
    from read_csv(
        {{ delta_text(model['root_path'] ~ '/' ~ model['original_file_path']) }},
        header = true,
        delim = {{ delta_text(config.get('delimiter') or ',') }},
        nullstr = '',
        sample_size = -1{% if types %},
        types = { {{ types | join(', ') }} }{% endif %}
    )
{% endmacro %}


{% macro delta_text(value) -%}
    '{{ value | replace("'", "''") }}'
{%- endmacro %}


{# Stages a query that is no model's own: a seed's, a snapshot's. With `unique_key`, rows of equal key are updated. #}
{% macro delta_store(target_relation, query, strategy, unique_key) %}
    {%- set request = {
        'node': model['unique_id'],
        'sql': query,
        'strategy': strategy,
        'is_incremental': strategy is not none,
        'unique_key': unique_key,
        'partition_by': config.get('partition_by'),
        'on_schema_change': 'append_new_columns' if strategy is not none else none,
        'unsupported': {},
        'not_null': [],
        'checks': [],
        'result': {},
    } -%}
    {%- do request.update(delta_table_metadata()) -%}
    {%- do adapter.store_relation('delta_lake', target_relation, [], '', 'delta', request) -%}
    {%- set written = request['result'] -%}
    {%- set message = 'STAGED ' ~ written['rows'] ~ ' rows on v' ~ written['base_version'] -%}
    {% call noop_statement('main', message, 'DELTA', written['rows']) -%}
        {{ query }}
    {%- endcall %}
{% endmacro %}
