{#
    The model as it is compiled now, kept beside the commit: what `factory impact` compares an edit with. The query of a
    full refresh is always there, since an incremental run's own leaves most of the table out.
#}
{% macro delta_published_query() %}
    {%- set full = compiled_code -%}
    {%- if is_incremental() -%}
        {%- do model.update({'as_full_refresh': true}) -%}
        {%- if model['language'] == 'python' -%}
            {%- set full = model['raw_code'] ~ '\n\n' ~ py_script_postfix(model) -%}
        {%- else -%}
            {%- set full = render(model['raw_code']) -%}
        {%- endif -%}
        {%- do model.pop('as_full_refresh') -%}
        {%- set ephemeral = model['extra_ctes'] | map(attribute='sql') | join(',') -%}
        {%- if ephemeral -%}
            {%- set full = 'with' ~ ephemeral ~ ' select * from (\n' ~ full ~ '\n) as model_rows' -%}
        {%- endif -%}
    {%- endif -%}
    {{ return({
        'full': full,
        'incremental': compiled_code if is_incremental() else none,
        'node': {'language': model['language'], 'columns': model['columns'], 'config': model['config'], 'constraints': model['constraints']},
    }) }}
{% endmacro %}
