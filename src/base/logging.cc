#include "base/logging.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <memory>
#include <string>

#include "base/error.h"

namespace taipan {
namespace {

// Logging is the one thing that every layer may reach for without being handed it; spdlog's logger is safe among
// threads.
spdlog::logger& Logger() {
  static spdlog::logger logger = [] {
    spdlog::logger made("taipan", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made.set_pattern("%n: %v");
    made.flush_on(spdlog::level::info);
    return made;
  }();
  return logger;
}

spdlog::level::level_enum SpdlogLevel(LogLevel level) {
  switch (level) {
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kSilent:
      return spdlog::level::off;
  }
  CHECK(false);
  return spdlog::level::off;
}

}  // namespace

void WriteText(std::FILE* out, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), out);
  std::fflush(out);
  std::clearerr(out);
}

void SetLogLevel(LogLevel least) { Logger().set_level(SpdlogLevel(least)); }

void LogMessage(LogLevel level, std::string_view message) {
  CHECK(level != LogLevel::kSilent);
  const char* prefix = level == LogLevel::kWarning ? "warning: " : level == LogLevel::kError ? "error: " : "";
  Logger().log(SpdlogLevel(level), "{}{}", prefix, message);
}

}  // namespace taipan
