{#
    Publishes what the run has staged, from `on-run-end`: a model's new rows become visible when every error-severity test
    that reads them has run and passed. What is held fails the hook, so that dbt ends with exit code 1.

    publish_unaudited   var: tests that did not run count as passed, as `dbt run` needs it. One that failed still holds.
#}
{% macro delta_publish(results) %}
    {%- if not execute or flags.WHICH in ['compile', 'parse', 'show', 'list', 'docs'] -%}{{ return('') }}{%- endif -%}
    {%- set report = {} -%}
    {%- set request = {
        'publish': {
            'results': results,
            'nodes': graph.nodes,
            'command': flags.WHICH,
            'publish_unaudited': var('publish_unaudited', false),
        },
        'result': report,
    } -%}
    {%- do adapter.store_relation('delta_lake', api.Relation.create(schema='ops', identifier='publishes'), [], '', 'delta', request) -%}
    {{ return(report['sql']) }}
{% endmacro %}
