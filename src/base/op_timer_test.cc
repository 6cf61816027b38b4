#include "base/op_timer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace taipan {
namespace {

void Sleep(int milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }

TEST(OpTimer, TimeInsideAnotherOperationIsCountedOnce) {
  OpRecorder recorder;
  {
    const OpTimer outer("outer");
    Sleep(2);
    {
      const OpTimer inner("inner");
      Sleep(50);
    }
  }
  ASSERT_EQ(recorder.times().size(), 2u);
  const OpTime &inner = recorder.times()[0], &outer = recorder.times()[1];
  EXPECT_EQ(inner.op, "inner");
  EXPECT_EQ(outer.op, "outer");
  EXPECT_GE(inner.seconds, 0.050);
  EXPECT_GE(outer.seconds, 0.002);
  EXPECT_LT(outer.seconds, inner.seconds);
}

TEST(OpTimer, CallsOfOneOperationAddUp) {
  OpRecorder recorder;
  for (int i = 0; i < 3; ++i) const OpTimer timer("op");
  ASSERT_EQ(recorder.times().size(), 1u);
  EXPECT_EQ(recorder.times()[0].calls, 3);
  recorder.Reset();
  EXPECT_TRUE(recorder.times().empty());
}

TEST(OpTimer, NothingIsRecordedWithoutARecorderOrOnAnotherThread) {
  { const OpTimer timer("before"); }
  OpRecorder recorder;
  std::thread([] { const OpTimer timer("elsewhere"); }).join();
  EXPECT_TRUE(recorder.times().empty());
}

}  // namespace
}  // namespace taipan
