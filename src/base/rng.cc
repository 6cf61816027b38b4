#include "base/rng.h"

#include <cmath>
#include <numbers>
#include <utility>

#include "base/error.h"

namespace taipan {
namespace {

__extension__ typedef unsigned __int128 Uint128;

// 52 random bits as (k + 1/2) 2^-52: k + 1/2 has 53 significant bits, so the value is exact and never 0 or 1.
double OpenUnit(uint32_t low, uint32_t high) {
  const uint64_t k = ((uint64_t{high} << 32) | low) >> 12;
  return (static_cast<double>(k) + 0.5) * 0x1p-52;
}

double GumbelFrom(double uniform) { return -std::log(-std::log(uniform)); }

}  // namespace

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  // Multipliers and Weyl increments of the paper, table 2 and section 4.
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  constexpr int kRounds = 10;
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = kMultiplier0 * counter[0];
    const uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

std::array<uint32_t, 4> RandomBits(const RandomKey& key, uint64_t index) {
  return Philox4x32({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), key.step, key.stream},
                    {static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32)});
}

double RandomUniform(const RandomKey& key, uint64_t index) {
  const auto bits = RandomBits(key, index);
  return OpenUnit(bits[0], bits[1]);
}

double RandomNormal(const RandomKey& key, uint64_t index) {
  const auto bits = RandomBits(key, index);
  const double radius = std::sqrt(-2.0 * std::log(OpenUnit(bits[0], bits[1])));
  return radius * std::cos(2.0 * std::numbers::pi * OpenUnit(bits[2], bits[3]));
}

std::array<float, 2> RandomGumbelPair(const RandomKey& key, uint64_t index) {
  const auto bits = RandomBits(key, index);
  return {static_cast<float>(GumbelFrom(OpenUnit(bits[0], bits[1]))),
          static_cast<float>(GumbelFrom(OpenUnit(bits[2], bits[3])))};
}

uint64_t RandomBelow(const RandomKey& key, uint64_t index, uint64_t n) {
  CHECK_GE(n, 1u);
  // The integer part of x n / 2^128 for 128 random bits x; the bias is at most n 2^-128.
  const auto bits = RandomBits(key, index);
  const uint64_t low = (uint64_t{bits[1]} << 32) | bits[0];
  const uint64_t high = (uint64_t{bits[3]} << 32) | bits[2];
  const Uint128 carry = (Uint128{low} * n) >> 64;
  return static_cast<uint64_t>((Uint128{high} * n + carry) >> 64);
}

uint64_t RandomPermutation(const RandomKey& key, uint64_t i, uint64_t n) {
  CHECK_LT(i, n);
  // Halves of equal width over a domain in [n, 4 n): walking the cycle until it returns below n takes fewer than four
  // steps on average. The domain is 64 at least: with two bits a half, the permutations of a small n are measurably
  // unequal however many rounds there are.
  int half = 3;
  while (half < 32 && (uint64_t{1} << (2 * half)) < n) ++half;
  const uint64_t mask = (uint64_t{1} << half) - 1;
  constexpr uint64_t kFeistelRounds = 8;  // four do on large domains; small ones want more
  do {
    uint64_t left = i >> half, right = i & mask;
    for (uint64_t round = 0; round < kFeistelRounds; ++round) {
      const uint64_t mixed = left ^ (RandomBits(key, (round << 32) | right)[0] & mask);
      left = std::exchange(right, mixed);
    }
    i = (left << half) | right;
  } while (i >= n);
  return i;
}

}  // namespace taipan
