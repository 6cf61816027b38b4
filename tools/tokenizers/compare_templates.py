#!/usr/bin/env python3
"""Compares `taipan tokenizer apply-template` with transformers, byte for byte.

    python3 tools/tokenizers/compare_templates.py --program build/taipan [--templates DIR ...] [--random N] [--seed N]
    python3 tools/tokenizers/compare_templates.py --write tests/templates/cases.jsonl

DIR holds templates (*.jinja); each is rendered with several conversations, with and without tools. --random N draws
expressions and small templates. Where transformers renders and taipan refuses, the refusals are counted by their
reason; where the texts differ, or taipan renders what transformers refuses, the case is printed. --write renders the
templates beside FILE and EXPRESSIONS below with transformers, for the test that needs no Python. Exit code 1 where any
text differs, 77 where transformers or jinja2 is missing.
"""
import argparse
import collections
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}

TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Weather of a \"place\" <now> & later.",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "Name of the city, é or not"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "days": {"type": ["integer", "null"], "default": None}}, "required": ["city"]},
        "return": {"type": "string", "description": "A text."}}},
    {"type": "function", "function": {
        "name": "add", "description": "Adds numbers.", "parameters": {"type": "object", "properties": {
            "numbers": {"type": "array", "items": {"type": "number"}, "description": "What to add"},
            "options": {"type": "object", "properties": {"exact": {"type": "boolean", "default": True}}}},
            "required": ["numbers"]}}},
]
CALL = {"id": "abcdefghi", "type": "function",
        "function": {"name": "get_weather", "arguments": {"city": "Paris", "days": 2, "share": 0.5}}}
CHATS = [
    [{"role": "user", "content": "Hi\n there "}],
    [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "Hé"},
     {"role": "assistant", "content": " Yes. "}, {"role": "user", "content": "Bye"}],
    [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "", "tool_calls": [CALL]},
     {"role": "tool", "name": "get_weather", "tool_call_id": "abcdefghi", "content": "{\"degrees\": 21.5}"},
     {"role": "assistant", "content": "It is warm."}, {"role": "user", "content": "Thanks"}],
    [{"role": "user", "content": [{"type": "text", "text": "Look: "}, {"type": "image", "url": "x"},
                                  {"type": "text", "text": "what?"}]},
     {"role": "assistant", "content": "<think>\nHm, hm.\n</think>\n\nA cat."}, {"role": "user", "content": "Sure?"}],
    [{"role": "developer", "content": "Rules"}, {"role": "user", "content": "2+2"},
     {"role": "assistant", "reasoning_content": "Easy.", "content": "4"}, {"role": "user", "content": "3+3"},
     {"role": "assistant", "content": None, "tool_calls": [CALL]}],
    [{"role": "assistant", "content": "I begin."}, {"role": "user", "content": ""}],
]

VARIABLES = {
    "a": 7, "b": -3, "c": 2.5, "z": 0, "big": 123456, "t": True, "f": False, "n": None, "s": "Hello, World",
    "e": "", "u": "Größe ÉTÉ ǆ ß ﬁ Σας", "w": "  pad\tme \n", "html": "<a href=\"x\">'&'</a>", "num": "42", "flt": " 3.75 ",
    "lines": "one\n\ntwo\r\nthree", "l": [3, 1, 2], "words": ["b", "A", "c", "a"], "mixed": [1, "x", None, True, 2.0],
    "d": {"k": "v", "n": 1, "items": [1, 2]}, "nested": {"x": {"y": [{"z": 5}]}},
    "rows": [{"name": "x", "n": 2, "g": "B"}, {"name": "Y", "n": 1, "g": "a"}, {"name": "z", "n": 3, "g": "b"}],
    "empty": [], "none_list": [None, None], "tree": [{"v": 1, "c": [{"v": 2, "c": []}, {"v": 3, "c": [{"v": 4, "c": []}]}]}],
}
SCALARS = ["a", "b", "c", "z", "t", "f", "n", "s", "e", "u", "w", "html", "num", "flt", "lines", "missing", "d.k",
           "rows[0].n", "0", "1", "-1", "3", "1.5", "0.1", "1e20", "2.0", "'x'", "'a,b,c'", "\"it's\"", "none", "true",
           "'%s-%05.1f|%d'", "'abc'[1]", "big", "'\\u00e9\\n'"]
LISTS = ["l", "words", "mixed", "rows", "empty", "d", "nested", "[1, 2, 3]", "(1, 'a')", "[]", "{'a': 1, 2: 'b'}",
         "range(4)", "range(1, 10, 3)", "s", "'abc'", "d.items()", "d.keys()", "none_list", "missing", "(5,)", "[[1], [2]]",
         "rows|map(attribute='n')", "words|reverse", "l|sort", "nested.x.y", "d.values()"]
FILTERS = ["upper", "lower", "title", "capitalize", "trim", "length", "string", "int", "float", "abs", "round", "tojson", "list",
           "first", "last", "e", "default('D')", "default('D', true)", "replace('l', 'L')", "replace('l', 'L', 1)",
           "join", "join(', ')", "sort", "sort(reverse=true)", "unique|list", "reverse|list", "sum", "min", "max", "wordcount",
           "indent(2)", "indent(2, true, true)", "truncate(5)", "truncate(9, true, '', 0)", "center(15)", "round(1)",
           "round(1, 'floor')", "round(method='ceil')", "tojson(indent=2)", "tojson(ensure_ascii=true)", "int(5)",
           "int(base=16)", "float(9)", "count", "batch(2)|list", "slice(2)|list", "dictsort", "items|list", "urlencode",
           "tojson(separators=(',', ':'))", "tojson(sort_keys=true)", "select|list", "reject('none')|list", "map('upper')|list",
           "map('string')|join('-')", "select('odd')|list", "groupby('g')|list", "selectattr('n', 'gt', 1)|list",
           "rejectattr('n', 'eq', 1)|map(attribute='name')|list", "map(attribute='n')|sum", "sum(attribute='n')",
           "sort(attribute='g')|map(attribute='name')|join", "sort(attribute='g,n')|list", "max(attribute='n')", "attr('k')",
           "d", "safe", "filesizeformat", "xmlattr", "batch(2, 'F')|list", "format(1, 2, 3)", "reverse", "trim('H')", "escape",
           "string|length", "list|tojson", "map('int')|list", "map('default', 'q')|list", "length|string"]
TESTS = ["defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "true", "false", "mapping",
         "sequence", "iterable", "callable", "odd", "even", "divisibleby 3", "divisibleby(2)", "lower", "upper", "in [1, 2, 'x']",
         "eq 7", "ne 7", "gt 1", "lt 3", "ge 2", "le 2", "sameas none", "equalto('x')", "in 'Hello x'", "filter", "test",
         "escaped", "not none", "not defined"]
METHODS = ["upper()", "lower()", "title()", "strip()", "lstrip()", "rstrip('d')", "split()", "split(',')", "split(',', 1)",
           "rsplit(',', 1)", "rsplit(None, 1)", "splitlines()", "replace('l', 'r')", "replace('', '-')", "startswith('H')",
           "startswith(('a', 'H'))", "endswith('d')", "find('o')", "rfind('o')", "index('l')", "count('l')", "count('')",
           "zfill(8)", "ljust(14, '.')", "rjust(14)", "center(14, '*')", "isdigit()", "isalpha()", "isspace()", "isalnum()",
           "islower()", "isupper()", "istitle()", "capitalize()", "swapcase()", "casefold()", "partition(',')", "rpartition('o')",
           "removeprefix('He')", "removesuffix('ld')", "join(['1', '2'])", "format(1, x=2)", "encode()", "expandtabs(4)", "isascii()",
           "get('k')", "get('q', 5)", "items()", "keys()|list", "values()|list", "copy()", "append(1)", "pop()", "update({})",
           "index(1)", "count(1)", "k", "n", "x.y[0].z", "nothing", "real", "items", "0", "splitlines(true)", "strip('Hd')",
           "find('o', 5)", "isnumeric()", "isdecimal()", "isprintable()", "is_integer()", "bit_length"]
FORMATS = ["'%s' % a", "'%d items, %s' % (a, s)", "'%05.2f|%-6s|%+d' % (c, e, a)", "'%(k)s=%(n)03d' % d", "'%x %X %o' % (a, big, a)",
           "'%r %r' % (s, c)", "'%e %g %G' % (c, c, big)", "'%%' % ()", "'%5s|%-5s|%.2s' % (s, s, s)", "'%c' % 'x'", "'%s' % l",
           "'{} {}'.format(a, s)", "'{0:>5}|{0:<5}|{0:^5}|{0:05d}'.format(a)", "'{x:.2f} {y!r}'.format(x=c, y=s)",
           "'{:,}'.format(big)", "'{:.1%}'.format(c)", "'{0[k]} {1.n}'.format(d, d)", "'{:*^9}'.format(s)", "'{:x} {:#b}'.format(a, a)",
           "'{{}}'.format()", "'{:.3}'.format(s)", "'{:e}'.format(c)", "'{:g}'.format(c)", "'{:+}'.format(a)", "'%*d' % (5, a)"]
BINARY = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", ">", "<=", ">=", "and", "or", "in", "not in"]
STATEMENTS = [
    "{%% for x in %s %%}[{{ x }}:{{ loop.index }}{{ loop.last }}]{%% else %%}none{%% endfor %%}",
    "{%% for x in %s if x %%}{{ loop.length }}{{ loop.previtem }}{{ loop.revindex0 }}{%% endfor %%}",
    "{%% for x in %s recursive %%}{{ loop.depth }}{{ loop(x.c) if x.c }}{%% endfor %%}",
    "{%% set x, y = %s, 2 %%}{{ x }}{{ y }}", "{%% set x | upper %%}a{{ %s }}{%% endset %%}[{{ x }}]",
    "{%% set ns = namespace(v=%s) %%}{%% for i in range(2) %%}{%% set ns.v = [ns.v, i] %%}{%% endfor %%}{{ ns.v }}",
    "{%% macro m(p, q=%s) %%}{{ p }}{{ q }}{{ varargs }}{{ kwargs }}{%% endmacro %%}{{ m(1) }}{{ m(1, 2, 3, k=4) }}",
    "{%% macro m(p) %%}<{{ caller(p) }}>{%% endmacro %%}{%% call(x) m(%s) %%}{{ x }}!{%% endcall %%}",
    "{%% filter upper %%}a{{ %s }}{%% endfilter %%}", "{%% with x=%s, y=1 %%}{{ x }}{{ y }}{%% endwith %%}{{ x }}",
    "{%% if %s %%}yes{%% elif a %%}elif{%% else %%}no{%% endif %%}", "{{ %s }}, {{ 1, 2 }}",
    "{%% for x in %s %%}{%% if loop.index == 2 %%}{%% continue %%}{%% endif %%}{{ x }}{%% if loop.index > 3 %%}{%% break %%}"
    "{%% endif %%}{%% endfor %%}", "{%% for x in %s %%}{{ loop.cycle('a', 'b') }}{{ loop.changed(x) }}{%% endfor %%}",
    "{%% for k, v in (%s).items() %%}{{ k }}={{ v }};{%% endfor %%}", "{{ ('x' if %s) }}|{{ 'y' if %s else 'n' }}",
    "{%% set x = 1 %%}{%% if %s %%}{%% set x = 2 %%}{%% endif %%}{{ x }}", "{%% generation %%}{{ %s }}{%% endgeneration %%}",
    "  {%%- set x = %s -%%}  \n {{ x }}\n  {%% if x %%}\n y\n {%% endif %%}\n", "{%% raw %%}{{ x }}{%% endraw %%}{{ %s }}",
]


# For --write: what chat templates are made of, a few of each.
EXPRESSIONS = [
    "{{ 7 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7.5 % -2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ -2 ** 2 }} {{ 6 / 3 }}",
    "{{ 0.1 + 0.2 }} {{ 1e16 }} {{ 1e15 }} {{ 0.0001 }} {{ 0.00001 }} {{ 1_000 }} {{ 0x1F }} {{ 1.0 }} {{ 100 * 1.1 }}",
    "{{ [1, 'a', \"it's\", none, true, 1.5, (1,), (), {'k': [], 2: 'x'}] }} {{ 'é\n\\\\' ~ ['é\n\\\\'] }}",
    "{{ (1, 2) + (3,) }} {{ [0] * 3 }} {{ 'ab' * 2 }} {{ 3 * [1, 2] }} {{ [1] + [2] }} {{ 'x' * -1 }}|",
    "{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ 1 in (1, 2) }}",
    "{{ 'abcdef'[1:5:2] }} {{ 'abc'[::-1] }} {{ [1, 2, 3][-2:] }} {{ (1, 2, 3)[::2] }} {{ range(10)[2:8:3] }} {{ 'héé'[-1] }}",
    "{% set t = {0: 'none', 512: 'short'} %}{{ t[512] }}{{ t[0] }}{{ t[9] }}{{ t.get(9, 'd') }}{{ t|tojson }}",
    "{% set a, b = 1, 'x' %}{{ a }}{{ b }}{% set (c, (d, e)) = (1, (2, 3)) %}{{ c }}{{ d }}{{ e }}{% set f = 1, %}{{ f }}",
    "{% set ns = namespace(a=1) %}{% set ns.a, x = 5, 6 %}{{ ns.a }}{{ x }}{{ ns }}{% set ns.b %}t{% endset %}{{ ns.b }}",
    "{% set x | upper | replace('A', 'b') %}a é{% endset %}{{ x }}{% filter upper %}ß ﬁ {{ 'ǆ' }}{% endfilter %}",
    "{% if 1 %}{% macro m(a, b='z') %}[{{ a }}{{ b }}{{ varargs }}{{ kwargs }}]{% endmacro %}{% endif %}{{ m(1) }}{{ m(1, 2, 3, x=4) }}{{ m(b=1) }}",
    "{% macro m(x) %}<{{ caller(x, 2) }}>{% endmacro %}{% call(a, b) m('y') %}{{ a }}{{ b }}{% endcall %}{{ m.name }}{{ m.arguments }}",
    "{% for x in tree recursive %}{{ loop.depth }}{{ loop.depth0 }}:{{ x.v }}{% if x.c %}({{ loop(x.c) }}){% endif %},{% endfor %}",
    "{% for i in [1, 2] %}{% for j in [1] %}{{ loop.depth }}{{ loop.index }}{% endfor %}{{ loop.depth }}{% endfor %}",
    "{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{{ loop.cycle('a', 'b') }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.revindex0 }};{% endfor %}",
    "{% for x in range(9) if x is odd %}{% if x == 5 %}{% continue %}{% endif %}{{ loop.index }}/{{ loop.length }}={{ x }} {% else %}e{% endfor %}",
    "{% raw %}{{ x }}{% if %}{% endraw %} {%- raw -%}  y  {%- endraw -%}  z{# c #}",
    "{% with x = 1, y = a %}{{ x }}{{ y }}{% endwith %}{{ x }}|{{ missing }}|{{ 'y' if missing }}|{{ none }}",
    "{{ '%s-%05.1f|%-4d|%+d|%x|%%' % ('a', 2.25, 3, 4, 255) }} {{ '%(k)s' % d }} {{ '%s' % none }} {{ '%r' % 'x' }}",
    "{{ '{} {x!r:>5} {0:05.1f} {1:,}'.format(1.25, 12345, x='q') if false else '{0} {x!r:>5} {0:05.1f} {1:,}'.format(1.25, 12345, x='q') }}",
    "{{ '42'|int + 1 }} {{ 'x'|int(7) }} {{ '0x1f'|int(0, 16) }} {{ '3.9'|int }} {{ 3.9|int }} {{ '1e3'|float }} {{ ' 1_0 '|int }} {{ none|int }}",
    "{{ 2.5|round }} {{ 3.5|round }} {{ 2.675|round(2) }} {{ 7|round }} {{ 2.1|round(0, 'ceil') }} {{ 1234|round(-2) }} {{ -3|abs }}",
    "{{ [3, 1, 2]|sort }} {{ words|sort }} {{ words|sort(true, true) }} {{ rows|sort(attribute='g,n')|map(attribute='name')|join }} {{ d|dictsort }}",
    "{{ [1, 2, 3, 4, 5]|batch(2, 0)|list }} {{ [1, 2, 3, 4, 5]|slice(2)|list }} {{ 'abc'|reverse }} {{ [1, 2]|reverse|list }} {{ words|unique|list }}",
    "{{ rows|groupby('g')|list }} {{ rows|map(attribute='n')|sum }} {{ rows|sum('n') }} {{ rows|max(attribute='n') }} {{ [1, 'a']|first }} {{ []|last }}",
    "{{ none|selectattr('x')|list }} {{ missing|map('upper')|list }} {{ rows|selectattr('n', 'gt', 1)|rejectattr('g', 'eq', 'b')|list|length }} {{ (rows|select)|list|length }}",
    "{% if rows|selectattr('n', 'gt', 9) %}always{% endif %} {{ ['a', 'B']|map('upper')|join('-') }} {{ rows|map(attribute='q', default='?')|join }}",
    "{{ rows[0]|tojson(indent=2) }} {{ 'é'|tojson(ensure_ascii=true) }} {{ {'b': 1, 'a': [1.0, true, none]}|tojson(sort_keys=true) }} {{ [1, {}]|tojson(separators=(',', ':')) }}",
    "{{ [[], {}, [[1]]]|tojson(indent='--') }} {{ '<a href=\"x\">&</a>'|tojson }} {{ '\u2028\x7f'|tojson }} {{ {1: 2, none: 3, true: 4}|tojson }}",
    "{{ html|e }} {{ (html|e) ~ '<' }} {{ ('<'|e) + '<' }} {{ ('<'|safe) is escaped }} {{ html|urlencode }} {{ {'a': 'b c', 'd': 1}|urlencode }}",
    "{{ u.upper() }} {{ u.lower() }} {{ u.title() }} {{ u|title }} {{ u.capitalize() }} {{ u.swapcase() }} {{ u.casefold() }} {{ 'ΑΣ ΑΣΑ'|lower }}",
    "{{ 'Hello'.startswith(('x', 'He')) }} {{ 'a.b.c'.rsplit('.', 1) }} {{ ' a  b '.split() }} {{ 'a,b,,c'.split(',', 2) }} {{ 'ab'.find('c') }} {{ 'xaxbx'.count('x') }}",
    "{{ lines.splitlines() }} {{ 'abc'.removeprefix('a').removesuffix('c') }} {{ '7'.zfill(3) }} {{ '-7'.zfill(4) }} {{ 'ab'.center(5, '*') }} {{ 'a=b=c'.partition('=') }}",
    "{{ 'x\ny\n\nz'|indent(2) }} {{ 'x\ny'|indent(width='> ', first=true) }} {{ 'hello big world'|truncate(9, false, '..', 0) }} {{ 'a b_c é1'|wordcount }}",
    "{{ d.items() }} {{ d.keys()|list }} {{ d.items is defined }} {{ d['items'] }} {{ d.items()|length }} {{ d|items|first }} {{ d|attr('items') is callable }} {{ d|attr('k') }}|",
    "{{ l.append is defined }} {{ d.update }}| {{ 'x'.nothing is defined }} {{ none.x }}| {{ 5 is sameas 5 }} {{ 'upper' is filter }} {{ 'odd' is test }} {{ l is sequence }} {{ d.items() is sequence }}",
    "{{ cycler('a', 'b').next() }} {% set j = joiner('; ') %}{{ j() }}x{{ j() }}y {{ dict(a=1, b=2) }} {{ dict([('k', 1)]) }} {{ range(3) }} {{ range(5, 0, -2)|list }}",
    "{{ m(*[1, 2], **{'c': 3}) if m is defined else '-' }}{% macro f(a, b, c=0) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(*[1, 2], **{'c': 3}) }}{{ f(1, b=2) }}",
    "  {% if a %}\n  x\n  {%- endif %}\n\n {%+ if b %} y {% endif +%}\n w {#- c -#} \n v\n",
    "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = i + 5 %}{{ x }}{% endfor %}{{ x }}{% macro g() %}{{ x }}{% endmacro %}{% set x = 3 %}{{ g() }}",
    "{{ [1, 2, 3]|random if false else 'not reached' }} {% if false %}{{ 'a'|nofilter }}{{ 1.5 is notest }}{% include 'x' %}{% endif %}ok",
    "{{ 1 if false }}|{{ (missing or 'x') }}{{ missing == missing2 }}{{ missing is undefined }}{{ missing|default('d') }}{{ ''|default('d', true) }}{{ missing|length }}{{ [missing] }}",
    "{{ loop is defined }}{{ namespace(a=[1]).a[0] }}{{ 'a' 'b' }}{{ 1, 2 }}{{ not true or true and false }}{{ 1 ~ 2 * 3 }}{{ -1|abs }}{{ 'a'|upper ~ 'b'|upper }}",
]


def expression(rng, depth=0):
    kind = rng.random()
    if depth > 2 or kind < 0.15:
        return rng.choice(SCALARS if rng.random() < 0.6 else LISTS)
    inner = lambda: expression(rng, depth + 1)  # noqa: E731
    if kind < 0.45:
        return f"{rng.choice(SCALARS + LISTS) if rng.random() < .7 else '(' + inner() + ')'}|{rng.choice(FILTERS)}"
    if kind < 0.58:
        return f"({inner()}).{rng.choice(METHODS)}" if rng.random() < .3 else f"{rng.choice(['s', 'u', 'w', 'd', 'l', 'num', 'nested', 'c', 'lines'])}.{rng.choice(METHODS)}"
    if kind < 0.68:
        return f"({inner()}) is {rng.choice(TESTS)}"
    if kind < 0.85:
        operator = rng.choice(BINARY)
        right = rng.choice(["0", "1", "2", "0.5", "-1", "z"]) if operator == "**" else inner()
        return f"({inner()} {operator} {right})"
    if kind < 0.90:
        bound = lambda: rng.choice(["", "0", "1", "-1", "2", "-2", "5"])  # noqa: E731
        return f"({rng.choice(LISTS)})[{bound()}:{bound()}{':' + rng.choice(['', '2', '-1', '-2']) if rng.random() < .5 else ''}]"
    if kind < 0.94:
        return rng.choice(FORMATS)
    if kind < 0.97:
        return f"({inner()} if {inner()} else {inner()})"
    return f"[{inner()}, {inner()}]" if rng.random() < .5 else f"{{'a': {inner()}, 'b': {inner()}}}"


def random_template(rng):
    if rng.random() < 0.7:
        return "{{ " + expression(rng) + " }}"
    statement = rng.choice(STATEMENTS)
    return statement % tuple(expression(rng, 1) for _ in range(statement.count("%s")))


class Peer:
    """transformers' own compilation of a template."""

    def __init__(self):
        from transformers.utils import chat_template_utils
        self.utils = chat_template_utils

    def render(self, template, variables):
        variables = self.utils._plain_template_data(variables)
        if "messages" in variables:
            messages = self.utils._normalize_chat_messages(variables["messages"])
            variables["messages"] = self.utils._alias_reasoning_fields(messages)
        return self.utils._compile_jinja_template(template).render(**variables)


def cases_of(options):
    for folder in options.templates:
        for path in sorted(pathlib.Path(folder).glob("**/*.jinja")):
            for i, chat in enumerate(CHATS):
                for tools in (None, TOOLS):
                    yield f"{path.name} chat {i}{' tools' if tools else ''}", path.read_text(), {
                        **SPECIAL, "messages": chat, "tools": tools, "documents": None, "add_generation_prompt": i % 2 == 0}
    rng = random.Random(options.seed)
    for i in range(options.random):
        yield f"random {i}", random_template(rng), {**VARIABLES, "messages": CHATS[0], "tools": None, "documents": None,
                                                   "add_generation_prompt": True}


def write_cases(peer, path):
    """One line with the variables, then one a case: template, what it is given besides, and the right text."""
    lines = [{"variables": {**SPECIAL, **VARIABLES}}]
    for template in EXPRESSIONS:
        lines.append({"template": template, "text": peer.render(template, json.loads(json.dumps({**SPECIAL, **VARIABLES})))})
    chosen = [(0, None), (1, None), (1, TOOLS), (2, TOOLS), (3, None), (4, None)]
    for file in sorted(pathlib.Path(path).parent.glob("*.jinja")):
        for chat, tools in chosen:
            given = {"messages": CHATS[chat], "tools": tools, "documents": None, "add_generation_prompt": chat != 2}
            try:
                text = peer.render(file.read_text(), {**SPECIAL, **json.loads(json.dumps(given))})
            except Exception:  # the template's own refusals: roles in another order and the like
                continue
            lines.append({"file": file.name, "chat": chat, "tools": tools is not None, "text": text})
    head = {"special": SPECIAL, "chats": CHATS, "tools": TOOLS}
    with open(path, "w", encoding="utf-8") as out:
        for line in [{**lines[0], **head}] + lines[1:]:
            out.write(json.dumps(line, ensure_ascii=False) + "\n")


def taipan(program, folder, number, template, variables):
    variables = dict(variables)
    name = os.path.join(folder, str(number))
    command = [program, "tokenizer", "apply-template", "--model", name + ".jinja", "--messages", name + ".json"]
    pathlib.Path(name + ".jinja").write_bytes(template.encode())
    pathlib.Path(name + ".json").write_text(json.dumps(variables.pop("messages")))
    tools = variables.pop("tools")
    if tools:
        pathlib.Path(name + ".tools").write_text(json.dumps(tools))
        command += ["--tools", name + ".tools"]
    if not variables.pop("add_generation_prompt"):
        command.append("--no-generation-prompt")
    del variables["documents"]
    for key, value in variables.items():
        command += ["--set", f"{key}={json.dumps(value)}"]
    run = subprocess.run(command, capture_output=True)
    if run.returncode not in (0, 1):
        return None, f"exit code {run.returncode}: {run.stderr.decode(errors='replace')}"
    return (run.stdout.decode(), None) if run.returncode == 0 else (None, run.stderr.decode(errors="replace").strip())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/taipan")
    parser.add_argument("--templates", nargs="*", default=[])
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", metavar="FILE")
    options = parser.parse_args()
    try:
        peer = Peer()
    except ImportError as error:
        print(f"skipped: {error}", file=sys.stderr)
        return 77
    if options.write:
        write_cases(peer, options.write)
        return 0
    counts, refusals = collections.Counter(), collections.Counter()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        cases = list(cases_of(options))
        ours = pool.map(lambda c: taipan(options.program, folder, c[0], c[1][1], c[1][2]), enumerate(cases))
        for (name, template, variables), (text, complaint) in zip(cases, ours):
            try:
                right, why = peer.render(template, variables), None
            except Exception as error:  # whatever a template makes Python raise is a refusal
                right, why = None, f"{type(error).__name__}: {error}"
            crash = complaint is not None and complaint.startswith("exit code")
            if text == right and not crash:
                counts["equal" if text is not None else "refused by both"] += 1
            elif text is None and not crash:
                counts["refused here only"] += 1
                refusals[complaint.split(": ", 4)[-1][:100]] += 1
            else:
                counts["different"] += 1
                print(f"--- {name}: {template[:300]!r}\n right {right!r} {why or ''}\n  ours {text!r} {complaint or ''}")
    for reason, count in refusals.most_common():
        print(f"{count:6} refused here only: {reason}")
    print(", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
    return 1 if counts["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
