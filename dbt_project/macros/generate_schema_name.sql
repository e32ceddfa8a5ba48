{# A layer's name is the folder of its tables in the lake, for every target. #}
{% macro generate_schema_name(custom_schema_name, node) %}
    {{- (custom_schema_name or target.schema) | trim -}}
{% endmacro %}
