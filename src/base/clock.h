#pragma once

#include <chrono>

namespace taipan {

// Of a steady clock, from some begin on.
inline double NowSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace taipan
