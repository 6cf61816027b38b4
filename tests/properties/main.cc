// The property tests. The models are tiny: waking a second thread costs more than it does, so one thread runs them;
// bitwise_test.cc shows that the number of threads changes no bit.

#include <gtest/gtest.h>

#include "base/parallel.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  taipan::SetNumThreads(1);
  return RUN_ALL_TESTS();
}
