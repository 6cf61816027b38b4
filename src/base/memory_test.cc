#include "base/memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

namespace taipan {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(OutOfMemory, SaysWhatWasAskedForAndWhatIsAllowed) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers map terabytes";
#endif
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_AS, &before), 0);
  rlimit soft = before;
  soft.rlim_cur = rlim_t{1} << 40;
  ASSERT_EQ(setrlimit(RLIMIT_AS, &soft), 0);
  const std::string known = OutOfMemoryMessage(OutOfMemory(int64_t{3} << 29)), unknown = OutOfMemoryMessage({});
  setrlimit(RLIMIT_AS, &before);
  EXPECT_THAT(known, HasSubstr("out of memory: 1.5 GiB more were asked for ("));
  EXPECT_THAT(known, HasSubstr("ulimit -v allows this process 1.0 TiB"));
  EXPECT_THAT(unknown, testing::StartsWith("out of memory ("));
  EXPECT_THAT(unknown, Not(HasSubstr("bad_alloc")));
}

}  // namespace
}  // namespace taipan
