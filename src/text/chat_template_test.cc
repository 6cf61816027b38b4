#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/test_folder.h"

namespace taipan {
namespace {

using testing::HasSubstr;

const std::vector<ChatMessage> kChat = {
    {"system", " Be brief. "}, {"user", "Hi\n there "}, {"assistant", " Yes. "}, {"user", "Bye"}};

std::string Rendered(const std::string& source, const std::vector<ChatMessage>& messages, bool prompt = true) {
  return ChatTemplate(source, "file", {{"bos_token", "<s>"}, {"eos_token", "</s>"}}).Render(messages, prompt);
}
// Of a template that looks at no messages.
std::string Rendered(const std::string& source) { return Rendered(source, {}); }
std::string Complaint(const std::string& source, const std::vector<ChatMessage>& messages = {}) {
  return UserErrorOf([&] { Rendered(source, messages); });
}

// The expected texts of these are Jinja2's, with the settings of transformers' apply_chat_template.

TEST(ChatTemplate, ChatMl) {
  const std::string source =
      "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
      "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
      "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
  EXPECT_EQ(Rendered(source, kChat),
            "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\nHi\n there <|im_end|>\n"
            "<|im_start|>assistant\n Yes. <|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(Rendered(source, {{"user", "x"}}, false),
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nx<|im_end|>\n");
}

TEST(ChatTemplate, Llama2) {
  const std::string source =
      "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
      "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
      "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
      "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}"
      "{% endif %}{% if loop.index0 == 0 and system_message != false %}"
      "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}"
      "{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
      "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
      "{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}";
  EXPECT_EQ(Rendered(source, kChat),
            "<s>[INST] <<SYS>>\n Be brief. \n<</SYS>>\n\nHi\n there [/INST] Yes. </s><s>[INST] Bye [/INST]");
  EXPECT_EQ(Complaint(source, {{"user", "a"}, {"user", "b"}}),
            "file: the chat template refuses these messages: Roles must alternate");
}

TEST(ChatTemplate, Llama3) {
  const std::string source =
      "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
      "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
      "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
      "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";
  EXPECT_EQ(Rendered(source, {{"user", " Hi\n there "}, {"assistant", "Yes."}}),
            "<s><|start_header_id|>user<|end_header_id|>\n\nHi\n there<|eot_id|><|start_header_id|>assistant"
            "<|end_header_id|>\n\nYes.<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
}

TEST(ChatTemplate, MistralOfBothSpacings) {
  const std::string v1 =
      "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
      "{{ raise_exception('Roles must alternate') }}{% endif %}{% if message['role'] == 'user' %}"
      "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
      "{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Only user and assistant roles!') }}{% endif %}"
      "{% endfor %}";
  const std::vector<ChatMessage> no_system(kChat.begin() + 1, kChat.end());
  EXPECT_EQ(Rendered(v1, no_system), "<s>[INST] Hi\n there  [/INST] Yes. </s>[INST] Bye [/INST]");
  const std::string v3 = R"({%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}

{#- Users and assistants take turns. #}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("Roles must alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS]" + tools|tojson(indent=4) }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- endif %}
{%- endfor %}
)";
  EXPECT_EQ(Rendered(v3, kChat), "<s>[INST] Hi\n there [/INST] Yes.</s>[INST]  Be brief. \n\nBye[/INST]");
}

TEST(ChatTemplate, ZephyrWhoseLinesAreTrimmed) {
  const std::string source =
      "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
      "{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n"
      "{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
      "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
      "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}";
  EXPECT_EQ(Rendered(source, kChat),
            "<|system|>\n Be brief. </s>\n<|user|>\nHi\n there </s>\n<|assistant|>\n Yes. </s>\n<|user|>\nBye</s>\n"
            "<|assistant|>\n");
}

TEST(Jinja, WhiteSpaceOfTags) {
  EXPECT_EQ(Rendered("a\n  {% if true %}\n x\n  {%- endif %}\n   {# c #}\n y {{ 1 }}\n"), "a\n x y 1");
  EXPECT_EQ(
      Rendered("{%- for i in [1, 2] -%}\n  {{- i -}}\n  {%- if not loop.last -%} , {%- endif -%}\n{%- endfor -%}\n\nz"),
      "1,2z");
  EXPECT_EQ(Rendered("   {%+ if 1 %} z {% endif +%}\n w"), "    z \n w");
  EXPECT_EQ(Rendered("a\r\nb\r{{ 1 }}\r\n"), "a\nb\n1");
}

TEST(Jinja, Operators) {
  EXPECT_EQ(Rendered("{{ 1 + 2 * 3 - -4 // 3 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }}"), "9 -4 2 -2");
  EXPECT_EQ(Rendered("{{ 'a' ~ 1 ~ none }} {{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ not 1 == 2 }} {{ true == 1 }}"),
            "a1None True False True True");
  EXPECT_EQ(Rendered("{{ 'x' in 'xyz' }} {{ 'x' not in ['x'] }} {{ 'a' if false }}|{{ 'b' if 0 else 'c' }}"),
            "True False |c");
  EXPECT_EQ(Rendered("{{ 'abcd'[1:3] }} {{ 'abcd'[::-1] }} {{ [1, 2, 3][-1] }} {{ 'é€x'[1] }} {{ 'é€x'|length }}"),
            "bc dcba 3 € 3");
  EXPECT_EQ(
      Rendered("{{ {'a': {'b': 'c'}}['a'].b }} {{ {'a': 1}.get('z') }} {{ nothing }}|{{ nothing | default('d') }}"),
      "c None |d");
}

TEST(Jinja, FiltersMethodsAndTests) {
  EXPECT_EQ(
      Rendered("{{ 'a,b,,c'.split(',') | join('|') }} {{ ' a  b '.split() | join('|') }} {{ 'xxaxx'.strip('x') }}"),
      "a|b||c a|b a");
  EXPECT_EQ(Rendered("{{ '\xC2\xA0 a\xE3\x80\x80' | trim }}|{{ 'aXb' | replace('X', '-') }} {{ 'aB'|upper }} {{ "
                     "'hELLO'|capitalize }}"),
            "a|a-b AB Hello");
  EXPECT_EQ(Rendered("{{ [1, true, none, 'x\\n\\\"'] | tojson }}"), R"([1, true, null, "x\n\""])");
  EXPECT_EQ(Rendered("{{ 3 is odd }} {{ 4 is divisibleby 2 }} {{ x is defined }} {{ strftime_now is defined }}"),
            "True True False True");
  EXPECT_EQ(Rendered("{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}{{ v }}{% endfor %}"), "a1b2");
}

TEST(Jinja, ScopesLoopsAndMacros) {
  EXPECT_EQ(Rendered("{% set x = 1 %}{% for i in range(3) %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}"), "1231");
  EXPECT_EQ(
      Rendered(
          "{% set n = namespace(y=0) %}{% for i in range(1, 10, 3) %}{% set n.y = n.y + i %}{% endfor %}{{ n.y }}"),
      "12");
  EXPECT_EQ(
      Rendered("{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i > 4 %}{% break %}{% endif %}"
               "{{ i }}{% endfor %}"),
      "0134");
  EXPECT_EQ(Rendered("{% macro f(a, b='z') %}[{{ a }}{{ b }}{{ x }}{{ y }}]{% endmacro %}{% set x = 'top' %}"
                     "{% for i in range(2) %}{% set y = 'in' %}{{ f(i) }}{{ f(i, b='k') }}{% endfor %}"),
            "[0ztop][0ktop][1ztop][1ktop]");
  EXPECT_EQ(Rendered("{% set c %}b{{ 1 }}{% endset %}[{{ c }}]{% for i in [] %}{% else %}none{% endfor %}"),
            "[b1]none");
}

TEST(Jinja, RefusesWhatItDoesNotKnowByNameWhereItIsReached) {
  EXPECT_EQ(Complaint("a\n{% include 'x' %}"),
            "file: chat template, line 2: a statement that is not supported, found include");
  EXPECT_EQ(Complaint("{{ 'a' | wordwrap(3, 4, 5, 6) }}"),
            "file: chat template, line 1: a filter that is not supported, found wordwrap");
  EXPECT_THAT(Complaint("{{ 1 is notest }}"), HasSubstr("a test that is not supported, found notest"));
  EXPECT_THAT(Complaint("{{ lipsum() }}"), HasSubstr("a function that is not supported, found lipsum"));
  EXPECT_THAT(Complaint("{{ nofunction() }}"), HasSubstr("'nofunction' is undefined"));
  EXPECT_THAT(Complaint("{{ 'a'.encode() }}"), HasSubstr("a method of str that is not supported, found encode"));
  EXPECT_THAT(Complaint("{{ '\\N{BULLET}' }}"), HasSubstr("characters by their names"));
  EXPECT_THAT(Complaint("{{ 12345678901234567890 }}"), HasSubstr("a whole number is too large"));
  EXPECT_THAT(Complaint("{{ 9223372036854775807 + 1 }}"), HasSubstr("a whole number is too large"));
  EXPECT_THAT(Complaint("{{ [1].append(2) }}"), HasSubstr("access to attribute 'append' of 'list' object is unsafe"));
  EXPECT_THAT(Complaint("{{ nothing.x }}"), HasSubstr("'nothing' is undefined"));
  EXPECT_THAT(Complaint("{{ 1 + 'a' }}"), HasSubstr("does not go with these types, found int and str"));
  EXPECT_THAT(Complaint("{{ ['a'] | map('upper') }}"),
              HasSubstr("printing this type is not supported, found generator"));
  EXPECT_EQ(
      Rendered("{% if false %}{% include 'x' %}{{ 'a' | wordwrap }}{{ 1 is notest }}{{ lipsum() }}{{ '\\N{BULLET}' }}"
               "{{ 12345678901234567890 }}{% endif %}ok"),
      "ok");
}

TEST(Jinja, RefusesWhatIsNotJinja) {
  EXPECT_THAT(Complaint("{% if true %}"), HasSubstr("syntax error, expected {% endif %}, found the end"));
  EXPECT_THAT(Complaint("{{ 'a }}"), HasSubstr("a string has no end"));
  EXPECT_THAT(Complaint("{% raw %} {{ x"), HasSubstr("a raw block has no end"));
  EXPECT_THAT(Complaint("{% trans %}"), HasSubstr("an unknown tag"));
  EXPECT_THAT(Complaint("{% break %}"), HasSubstr("break outside of a loop"));
  EXPECT_THAT(Complaint("{% for x in [1] %}{% macro f() %}{% break %}{% endmacro %}{% endfor %}"),
              HasSubstr("break outside of a loop"));
}

TEST(Jinja, HalvesAreNeitherOddNorEven) {
  EXPECT_EQ(Rendered("{{ 1.5 is odd }}{{ 1.5 is even }}{{ 3.0 is odd }}{{ -3 is odd }}"), "FalseFalseTrueTrue");
}

TEST(Jinja, WhatLivesLongerThanItsScope) {
  // Macros, loops and cyclers kept in a namespace, and one that holds itself.
  EXPECT_EQ(Rendered("{% set n = namespace() %}{% for i in [1, 2] %}{% macro f() %}{{ i }}{% endmacro %}"
                     "{% set n.f = f %}{% endfor %}{{ n.f() }}"),
            "2");
  EXPECT_EQ(Rendered("{% set n = namespace() %}{% for x in [[[]]] recursive %}{% set n.l = loop %}{% endfor %}"
                     "{{ n.l([[], []]) }}{{ n.l.index }}"),
            "2");
  EXPECT_EQ(Rendered("{% set f = cycler('a', 'b').next %}{{ f() }}{{ f() }}{% set n = namespace() %}{% set n.n = n %}"),
            "ab");
}

TEST(Jinja, NoTemplateRunsOrGrowsWithoutEnd) {
  EXPECT_THAT(Complaint("{% for i in range(1000000000000) %}{% endfor %}"), HasSubstr("without end"));
  EXPECT_THAT(Complaint("{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}"),
              HasSubstr("without end"));
  EXPECT_THAT(Complaint("{% set n = namespace(x=[]) %}{% for i in range(9999) %}{% set n.x = [n.x] %}{% endfor %}"),
              HasSubstr("nested too deeply"));
  EXPECT_THAT(Complaint("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), HasSubstr("nested too deeply"));
  EXPECT_THAT(Complaint("{{ " + std::string(100'000, '(') + "1" + std::string(100'000, ')') + " }}"),
              HasSubstr("nested too deeply"));
  std::string sum = "1";
  for (int i = 0; i < 10'000; ++i) sum += "+1";
  EXPECT_THAT(Complaint("{{ 'x' * 10 ** 9 }}"), HasSubstr("grows without end"));
  EXPECT_THAT(Complaint("{{ [1] * 10 ** 18 }}"), HasSubstr("grows without end"));
  EXPECT_THAT(Complaint("{{ '%99999999999d' % 1 }}"), HasSubstr("too large"));
  EXPECT_THAT(Complaint("{{ '{:99999999}'.format(1) }}"), HasSubstr("too large"));
  EXPECT_THAT(Complaint("{{ 'x'.center(10 ** 12) }}"), HasSubstr("grows without end"));
  EXPECT_THAT(
      Complaint(
          "{% set n = namespace(x=[]) %}{% for i in range(9999) %}{% set n.x = n.x | map('upper') %}{% endfor %}"),
      HasSubstr("nested too deeply"));
  EXPECT_THAT(Complaint("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}"), HasSubstr("nested too deeply"));
  EXPECT_THAT(Complaint("{{ " + sum + " }}"), HasSubstr("nested too deeply"));
}

}  // namespace
}  // namespace taipan
