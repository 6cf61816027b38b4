#include "kernels/isa.h"

#include <gtest/gtest.h>

#include <hwy/highway.h>

#include "base/error.h"

namespace taipan {
namespace {

TEST(Isa, TheActiveOneIsAmongTheNames) {
  std::vector<std::string> names = IsaNames();
  EXPECT_EQ(names.back(), "native");
#if defined(__x86_64__)
  names.push_back("amx");
  EXPECT_NE(std::find(names.begin(), names.end(), ActiveIsa()), names.end()) << ActiveIsa();
#endif
}

TEST(Isa, AnUnknownNameIsRefusedWithTheNearest) {
  try {
    LimitIsa("avx51", "--isa");
    FAIL();
  } catch (const UserError& e) {
    EXPECT_NE(std::string(e.what()).find("did you mean avx512?"), std::string::npos) << e.what();
  }
}

// In processes of their own: a limit lasts, and must come before oneDNN's first use.
TEST(IsaDeathTest, ALimitShowsInTheActiveSet) {
#if defined(__x86_64__)
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  std::vector<const char*> names = {"scalar"};
  if ((HWY_TARGETS & HWY_AVX2) != 0) names.push_back("avx2");  // sanitized builds leave it out
  for (const char* name : names) {
    EXPECT_EXIT(
        {
          try {
            LimitIsa(name, "--isa");
          } catch (const UserError&) {  // a CPU without it
            std::exit(0);
          }
          std::exit(ActiveIsa() == name ? 0 : 1);
        },
        ::testing::ExitedWithCode(0), "");
  }
#endif
}

}  // namespace
}  // namespace taipan
