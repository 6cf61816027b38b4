#include "base/logging.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace taipan {
namespace {

template <class F>
std::string OnStderr(F&& f) {
  testing::internal::CaptureStderr();
  f();
  return testing::internal::GetCapturedStderr();
}

TEST(Logging, LinesOnStderr) {
  EXPECT_EQ(OnStderr([] { LogInfo("read {} files", 3); }), "taipan: read 3 files\n");
  EXPECT_EQ(OnStderr([] { LogWarning("{:.1f} %", 12.34); }), "taipan: warning: 12.3 %\n");
  EXPECT_EQ(OnStderr([] { LogError("no"); }), "taipan: error: no\n");
}

TEST(Logging, BracesAndPercentSignsInMessagesAreText) {
  EXPECT_EQ(OnStderr([] { LogMessage(LogLevel::kInfo, "{} %v {x}"); }), "taipan: {} %v {x}\n");
}

TEST(Logging, Levels) {
  SetLogLevel(LogLevel::kWarning);
  EXPECT_EQ(OnStderr([] { LogInfo("a"); }), "");
  EXPECT_EQ(OnStderr([] { LogWarning("b"); }), "taipan: warning: b\n");
  SetLogLevel(LogLevel::kSilent);
  EXPECT_EQ(OnStderr([] { LogError("c"); }), "");
  SetLogLevel(LogLevel::kInfo);
  EXPECT_EQ(OnStderr([] { LogInfo("d"); }), "taipan: d\n");
  EXPECT_THROW(LogMessage(LogLevel::kSilent, "e"), InternalError);
}

}  // namespace
}  // namespace taipan
