#pragma once
// Messages for the person at the terminal, on stderr: "taipan: warning: ...". Reports go to stdout, progress to
// ProgressLine.

#include <fmt/format.h>

#include <cstdio>
#include <string_view>
#include <utility>

namespace taipan {

// Text for a person, at once. Where it cannot be written (a full disk, a closed pipe) it is lost: that is no reason to
// lose work too.
void WriteText(std::FILE* out, std::string_view text);

enum class LogLevel { kInfo, kWarning, kError, kSilent };
// Messages below `least` are dropped. At first everything is shown.
void SetLogLevel(LogLevel least);

void LogMessage(LogLevel level, std::string_view message);

template <class... Args>
void LogInfo(fmt::format_string<Args...> format, Args&&... args) {
  LogMessage(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void LogWarning(fmt::format_string<Args...> format, Args&&... args) {
  LogMessage(LogLevel::kWarning, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void LogError(fmt::format_string<Args...> format, Args&&... args) {
  LogMessage(LogLevel::kError, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace taipan
