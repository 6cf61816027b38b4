// taipan inspect --selection: the report, the page, and what is refused.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "e2e/tiny_model.h"

namespace taipan {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;
using testing::Not;

std::string SomeText() {
  std::string text;
  for (int i = 0; i < 60; ++i) text += "line " + std::to_string(i * i) + " of a text\n";
  return text;
}

Json Inspect(const TinyModelFolder& tiny, const std::vector<std::string>& flags) {
  std::vector<std::string> arguments = {"inspect", tiny.model(), "--selection", "--text", tiny / "text.txt", "--json"};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  const ProgramResult result = RunTaipan(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return Json::parse(result.out);
}

// The data of a page, and what is around it.
std::pair<Json, std::string> PageParts(const std::string& page) {
  const std::string open = R"(<script type="application/json" id="data">)";
  const size_t begin = page.find(open) + open.size(), end = page.find("</script>", begin);
  const std::string data = page.substr(begin, end - begin);
  EXPECT_THAT(data, Not(HasSubstr("<")));
  return {Json::parse(data), page.substr(0, begin) + page.substr(end)};
}

size_t Count(const std::string& text, const std::string& what) {
  size_t count = 0;
  for (size_t at = text.find(what); at != text.npos; at = text.find(what, at + 1)) ++count;
  return count;
}

TEST(Selection, SharesAreThoseOfScore) {
  const TinyModelFolder tiny;
  WriteFileAtomically(tiny / "text.txt", SomeText());
  const auto size = static_cast<int64_t>(SomeText().size());
  const Json report = Inspect(tiny, {"--context", "4096"});
  EXPECT_EQ(report.at("tokens"), size);
  EXPECT_EQ(report.at("layers"), Json::parse("[1]"));
  const ProgramResult score = RunTaipan({"score", "--model", tiny.model(), "--text", tiny / "text.txt", "--json"});
  EXPECT_EQ(report.at("selected_share"), Json::parse(score.out).at("selected_share"));
  for (const char* groups : {"by_position", "by_class"}) EXPECT_GT(report.at(groups).size(), 3u) << groups;
  EXPECT_FALSE(report.contains("gate_auc"));

  ASSERT_EQ(RunTaipan({"calibrate", tiny.model(), "--text", tiny / "text.txt"}).exit_code, 0);
  const Json other = Inspect(tiny, {"--context", "4096", "--budget", "0.4"});
  EXPECT_NEAR(other.at("selected_share").at(0).get<double>(), 0.4, 0.01);
  EXPECT_EQ(other.at("budget"), 0.4);
}

TEST(Selection, ThePageShowsTextAsText) {
  const TinyModelFolder tiny;
  const std::string text = "a</script><script>alert(1)</script><!-- \"&amp;' \n\xC3\xA9\t\xE2 b\\u003c";
  WriteFileAtomically(tiny / "text.txt", text);
  const std::string out = tiny / "a <page>.html";
  Inspect(tiny, {"--out", out, "--context", "16", "--gate-auc", "--gate-samples", "3"});
  const auto [data, rest] = PageParts(ReadFile(out));
  EXPECT_EQ(Count(rest, "<script"), 2u);
  EXPECT_EQ(Count(rest, "</script>"), 2u);
  EXPECT_THAT(rest, Not(HasSubstr("alert")));
  for (const char* outside : {" src=", "href=", "url(", "fetch(", "@import", "innerHTML"}) {
    EXPECT_THAT(rest, Not(HasSubstr(outside)));
  }
  std::string shown;
  for (const Json& token : data.at("texts")) shown += token.get<std::string>();
  EXPECT_EQ(shown, "a</script><script>alert(1)</script><!-- \"&amp;' \u21B5\\xC3\\xA9\u2192\\xE2 b\\u003c");
  for (const char* list : {"selected", "alpha", "margin", "benefit"}) {
    EXPECT_EQ(data.at(list).at(0).size(), list == std::string("selected") ? 1 : text.size()) << list;
  }
  EXPECT_EQ(data.at("selected").at(0).get<std::string>().size(), text.size());
  EXPECT_EQ(data.at("before_hit").get<std::string>().size(), text.size());
}

TEST(Selection, RanksTheGateByWhatAttendingIsWorth) {
  const TinyModelFolder tiny;
  WriteFileAtomically(tiny / "text.txt", SomeText());
  const Json report = Inspect(tiny, {"--tokens", "300", "--context", "150", "--gate-auc", "--gate-samples", "40"});
  for (const char* key : {"gate_auc", "gate_auc_equal_alpha", "surprise_auc_equal_alpha", "gate_auc_exact",
                          "benefit_correlation", "benefit_selected", "benefit_other"}) {
    ASSERT_EQ(report.at(key).size(), 1u) << key;
  }
  EXPECT_GT(report.at("gate_auc").at(0), 0.0);
  EXPECT_LT(report.at("gate_auc").at(0), 1.0);
  EXPECT_GT(report.at("benefit_correlation").at(0), 0.5);
  EXPECT_EQ(report.at("gate_samples"), 40);
  EXPECT_EQ(report.at("dtype"), "f32");
  const Json none = Inspect(tiny, {"--tokens", "300", "--gate-auc", "--gate-samples", "0"});
  EXPECT_TRUE(none.at("gate_auc_exact").at(0).is_null());
}

TEST(Selection, ReadsOnlyTheBeginningOfALongText) {
  const TinyModelFolder tiny;
  WriteFileAtomically(tiny / "text.txt", SomeText() + SomeText());      // longer than what 50 tokens can take
  std::filesystem::resize_file(tiny / "text.txt", uintmax_t{1} << 36);  // 64 GiB, next to none of it on the disk
  EXPECT_EQ(Inspect(tiny, {"--tokens", "50"}).at("tokens"), 50);
}

TEST(Selection, RefusesInOneLine) {
  const TinyModelFolder tiny;
  WriteFileAtomically(tiny / "text.txt", SomeText());
  WriteFileAtomically(tiny / "empty.txt", "");
  const auto run = [&](const std::string& model, const std::string& text, const std::vector<std::string>& flags) {
    std::vector<std::string> arguments = {"inspect", model, "--selection", "--text", text};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return RunTaipan(arguments);
  };
  ExpectOneLineError(run("mamba2-1m", tiny / "text.txt", {}), 1, {"mamba2-1m", "no selective attention layers"});
  ExpectOneLineError(run("taipan-1m", tiny / "text.txt", {}), 1, {"a preset has no weights"});
  ExpectOneLineError(run(tiny.model(), tiny / "none.txt", {}), 1, {"none.txt", "No such file"});
  ExpectOneLineError(run(tiny.model(), tiny / "", {}), 1, {"a folder"});
  ExpectOneLineError(run(tiny.model(), tiny / "empty.txt", {}), 1, {"empty.txt", "nothing to read"});
  ExpectOneLineError(run(tiny.model(), tiny / "text.txt", {"--out", tiny / "none/page.html"}), 1, {"none/page.html"});
  ExpectOneLineError(run(tiny.model(), tiny / "text.txt", {"--budget", "0.3"}), 1, {"selection.json"});
  ExpectOneLineError(run(tiny.model(), tiny / "text.txt", {"--tokens", "0"}), 2, {"--tokens"});
  ExpectOneLineError(run(tiny.model(), tiny / "text.txt", {"--tokens", "65537"}), 2, {"--tokens", "65536"});
  ExpectOneLineError(RunTaipan({"inspect", tiny.model(), "--selection"}), 2, {"--text"});
  ExpectOneLineError(RunTaipan({"inspect", tiny.model(), "--text", tiny / "text.txt"}), 2, {"--selection"});
}

}  // namespace
}  // namespace taipan
