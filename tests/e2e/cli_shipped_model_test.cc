// models/taipan-books, which generate, score and chat use where no model is named.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/test_folder.h"
#include "e2e/run_program.h"

namespace taipan {
namespace {

constexpr const char* kText =
    "The old man had gone to the window, and stood looking out upon the sea. \"It is late,\" said he, \"and the boat "
    "has "
    "not come in.\"\n";

TEST(ShippedModel, ScoresAFixedTextAsItDid) {
  const TestFolder f;
  WriteFileAtomically(f / "text.txt", kText);
  const ProgramResult result = RunTaipan({"score", "--text", f / "text.txt", "--dtype", "f32", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const nlohmann::json report = nlohmann::json::parse(result.out);
  EXPECT_EQ(report.at("tokens"), 35);
  EXPECT_NEAR(report.at("nll"), 93.583, 0.05);  // instruction sets differ by 1e-5
}

TEST(ShippedModel, WritesWhatItWrote) {
  const ProgramResult result =
      RunTaipan({"generate", "--prompt", "The old man", "--max-tokens", "12", "--temperature", "0", "--dtype", "f32"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, ", who was a man of great importance, and who");
}

TEST(ShippedModel, AnotherIsTakenWhereItIsNamed) {
  ExpectOneLineError(RunTaipan({"generate", "--model", "no-such", "--prompt", "The"}), 1, {"no-such"});
}

}  // namespace
}  // namespace taipan
