#include "tensor/f16.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace taipan {
namespace {

// By the definition of the format, in doubles.
double ValueOf(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == 31) return fraction == 0 ? sign * INFINITY : NAN;
  return sign * (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25));
}

uint16_t Half(float x) { return ToF16(x).bits; }

TEST(F16, EveryHalfWidensExactlyAndComesBack) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const double expected = ValueOf(half);
    const float got = ToFloat(F16{half});
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(got)) << bits;
      ASSERT_EQ(Half(got), half | 0x200) << bits;  // quiet, same payload
      continue;
    }
    ASSERT_EQ(static_cast<double>(got), expected) << bits;
    ASSERT_EQ(std::signbit(got), (bits & 0x8000) != 0) << bits;
    ASSERT_EQ(Half(got), half) << bits;
  }
}

TEST(F16, RoundsToNearestTiesToEven) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (uint16_t low = 0; low < 0x7bff; ++low) {
    const uint16_t high = static_cast<uint16_t>(low + 1), even = low % 2 == 0 ? low : high;
    const auto middle = static_cast<float>((ValueOf(low) + ValueOf(high)) / 2);  // exact
    ASSERT_EQ(Half(middle), even) << low;
    ASSERT_EQ(Half(std::nextafter(middle, 0.0f)), low) << low;
    ASSERT_EQ(Half(std::nextafter(middle, infinity)), high) << low;
    ASSERT_EQ(Half(-middle), even | 0x8000) << low;
  }
}

TEST(F16, Ends) {
  EXPECT_EQ(Half(65519.996f), 0x7bff);
  EXPECT_EQ(Half(65520.0f), 0x7c00);
  EXPECT_EQ(Half(std::numeric_limits<float>::max()), 0x7c00);
  EXPECT_EQ(Half(-std::numeric_limits<float>::infinity()), 0xfc00);
  EXPECT_EQ(Half(std::numeric_limits<float>::denorm_min()), 0);
  EXPECT_EQ(Half(-0.0f), 0x8000);
  // A NaN whose payload is in the dropped bits alone stays a NaN.
  EXPECT_EQ(Half(std::bit_cast<float>(0xff800001u)) & 0xfe00, 0xfe00);
}

}  // namespace
}  // namespace taipan
