#include "infer/stop_text.h"

#include <gtest/gtest.h>

namespace taipan {
namespace {

// The text cut into pieces of every size gives what the whole gives.
std::string Shown(const std::vector<std::string>& stops, const std::string& text, bool* found) {
  std::string whole;
  for (size_t size = text.size(); size > 0; --size) {
    StopText filter(stops);
    std::string shown;
    for (size_t at = 0; at < text.size() && !filter.found(); at += size) shown += filter.Append(text.substr(at, size));
    if (!filter.found()) shown += filter.Flush();
    if (size == text.size()) whole = shown;
    EXPECT_EQ(shown, whole) << size;
    *found = filter.found();
  }
  return whole;
}

TEST(StopText, IsFoundAcrossPieces) {
  bool found = false;
  EXPECT_EQ(Shown({"\nUser:"}, "one\ntwo\n\nUser: three", &found), "one\ntwo\n");
  EXPECT_TRUE(found);
  EXPECT_EQ(Shown({"abab"}, "xabaababy", &found), "xaba");
  EXPECT_TRUE(found);
  EXPECT_EQ(Shown({"never", "."}, "so. it ends", &found), "so");
  EXPECT_TRUE(found);
}

TEST(StopText, WhatWasHeldBackIsShownAtTheEnd) {
  bool found = true;
  EXPECT_EQ(Shown({"\n\nUser"}, "one\n\nUs", &found), "one\n\nUs");
  EXPECT_FALSE(found);
  EXPECT_EQ(Shown({}, "all", &found), "all");
  StopText filter({"ab"});
  EXPECT_EQ(filter.Append("xa"), "x");
  EXPECT_EQ(filter.Append("c"), "ac");
  EXPECT_EQ(filter.Append("ab and more"), "");
  EXPECT_EQ(filter.Append("more"), "");
  EXPECT_EQ(filter.Flush(), "");
}

}  // namespace
}  // namespace taipan
