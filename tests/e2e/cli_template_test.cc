// taipan tokenizer apply-template.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/files.h"
#include "base/test_folder.h"
#include "e2e/run_program.h"
#include "text/tokenizer.h"

namespace taipan {
namespace {

using testing::HasSubstr;

class ApplyTemplate : public testing::Test {
 protected:
  ApplyTemplate() {
    Write("tokenizer.json", ByteTokenizerJson());
    Write("tokenizer_config.json", R"({"bos_token": "<s>", "chat_template": [
        {"name": "default", "template": "{{ bos_token }}{% for m in messages %}{{ m.role[0] }}{{ m.content }}{% endfor %}{{ '>' if add_generation_prompt }}{{ x|tojson if x is defined }}"},
        {"name": "tool_use", "template": "{{ tools | map(attribute='name') | join(',') }}"}]})");
    Write("m.json", R"([{"role": "user", "content": "hi"}, {"role": "assistant", "content": null, "tool_calls": []}])");
  }

  std::string Write(const std::string& name, const std::string& content) {
    WriteFileAtomically(folder_ / name, content);
    return folder_ / name;
  }
  ProgramResult Run(std::vector<std::string> more, const std::string& model = "",
                    const std::string& messages = "m.json") {
    std::vector<std::string> arguments = {"tokenizer",  "apply-template",
                                          "--model",    model.empty() ? folder_.path() : folder_ / model,
                                          "--messages", folder_ / messages};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunTaipan(arguments);
  }

  TestFolder folder_;
};

TEST_F(ApplyTemplate, PrintsTheTextOrTheIdsAndNothingElse) {
  EXPECT_EQ(Run({}).out, "<s>uhia>");
  EXPECT_EQ(Run({"--no-generation-prompt"}).out, "<s>uhia");
  Write("inside.json", R"({"messages": [{"role": "user", "content": "hi"}]})");
  EXPECT_EQ(Run({}, "", "inside.json").out, "<s>uhi>");
  EXPECT_EQ(Run({}, "tokenizer.json").out, "<s>uhia>");
  EXPECT_EQ(Run({"--json"}).out, "{\"ids\": [60, 115, 62, 117, 104, 105, 97, 62]}\n");
  EXPECT_EQ(Run({"--set", "x={\"b\": [1.0, null], \"a\": 2}", "--set", "bos_token=\"B\""}).out,
            "Buhia>{\"b\": [1.0, null], \"a\": 2}");
  const std::string tools = Write("t.json", R"([{"name": "f"}, {"name": "g"}])");
  EXPECT_EQ(Run({"--tools", tools}).out, "f,g");
  Write("own.jinja", "{{ messages|length }}{{ bos_token is defined }}");
  EXPECT_EQ(Run({}, "own.jinja").out, "2False");
}

TEST_F(ApplyTemplate, SaysWhatIsWrongWithItsFiles) {
  const auto complaint = [&](const std::string& messages) {
    Write("bad.json", messages);
    const ProgramResult result = Run({}, "", "bad.json");
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_EQ(result.out, "");
    return result.err;
  };
  EXPECT_THAT(complaint("{\"role\": \"user\"}"), HasSubstr("no list of messages"));
  EXPECT_THAT(complaint("[]"), HasSubstr("no messages"));
  EXPECT_THAT(complaint("[\"hi\"]"), HasSubstr("message 1: not an object"));
  EXPECT_THAT(complaint("[{\"content\": \"hi\"}]"), HasSubstr("message 1: has no role"));
  EXPECT_THAT(complaint("[{\"role\": \"user\", \"content\": 3}]"), HasSubstr("content is no text"));
  EXPECT_THAT(complaint("[{"), HasSubstr("not valid JSON"));
  EXPECT_THAT(complaint("[{\"role\": \"user\", \"content\": \"\", \"n\": 18446744073709551615}]"),
              HasSubstr("a whole number is too large"));
  EXPECT_EQ(Run({"--set", "x"}).exit_code, 2);
  EXPECT_EQ(Run({"--set", "messages=[]"}).exit_code, 2);
  EXPECT_THAT(Run({"--set", "x=hi"}).err, HasSubstr("a text needs quotes"));
  Write("own.jinja", "{{ 1 }}");
  EXPECT_THAT(Run({"--json"}, "own.jinja").err, HasSubstr("no tokenizer for the ids"));
  EXPECT_THAT(Run({}, "nothing").err, HasSubstr("no such file or folder"));
}

}  // namespace
}  // namespace taipan
