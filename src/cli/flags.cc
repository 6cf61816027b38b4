#include "cli/flags.h"

#include <fmt/format.h>

#include "base/parallel.h"
#include "kernels/isa.h"

namespace taipan {
namespace {

// CLI11 wants "" for a good value.
template <class T>
CLI::Validator RangeCheck(const std::string& kind, const std::string& range, T least, T most) {
  auto problem = [=](const std::string& text) {
    T value = 0;
    const bool fits = CLI::detail::lexical_cast(text, value) && value >= least && value <= most;
    return fits ? std::string() : fmt::format("expected {} {}, found {}", kind, range, text);
  };
  return CLI::Validator(problem, range);
}

}  // namespace

void AddThreadsFlag(CLI::App& command) {
  command
      .add_option_function<int>(
          "--threads", [](int n) { SetNumThreads(n); },
          fmt::format("CPU threads (default {}: OMP_NUM_THREADS if set, else the CPUs this process "
                      "may use)",
                      DefaultNumThreads()))
      ->type_name("N")
      ->check(WholeNumber(1, 4096));
  command
      .add_option_function<std::string>(
          "--isa", [](const std::string& name) { LimitIsa(name, "--isa"); },
          fmt::format("Best instruction set to use: {} (default: TAIPAN_ISA if set, else native)",
                      fmt::join(IsaNames(), ", ")))
      ->type_name("NAME");
}

CLI::Validator NumberFromTo(double least, double most) {
  return RangeCheck("a number", fmt::format("from {} to {}", least, most), least, most);
}

CLI::Validator WholeNumber(int64_t least, int64_t most) {
  const bool bounded = most < std::numeric_limits<int64_t>::max();
  return RangeCheck("a whole number",
                    bounded ? fmt::format("from {} to {}", least, most) : fmt::format("from {}", least), least, most);
}

void TakeTextsAsTheyAre(CLI::Option& option) {
  // Brackets mean a list where any number of texts may follow; a large number of them is not "any".
  option.allow_extra_args(false)->expected(1, 1 << 20);
}

void AddJsonFlag(CLI::App& command, bool& json) {
  command.add_flag("--json", json, "Print JSON alone on standard output");
}

}  // namespace taipan
