#include "cli/flags.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "base/cpu.h"
#include "base/error.h"
#include "base/parallel.h"
#include "kernels/isa.h"

namespace taipan {
namespace {

// The whole text as a decimal number. CLI11's own conversion, which follows, stops at the ends of the type without a
// word and takes 010 for 8.
template <class T>
bool ParseNumber(const std::string& text, T& value) {
  const char* const end = text.data() + text.size();
  const size_t first = text.starts_with('-') ? 1 : 0;
  if (std::is_integral_v<T> && text.size() > first + 1 && text[first] == '0') return false;
  const auto parsed = std::from_chars(text.data(), end, value);
  return parsed.ec == std::errc() && parsed.ptr == end;
}

// CLI11 wants "" for a good value.
template <class T>
CLI::Validator RangeCheck(const std::string& kind, const std::string& range, T least, T most) {
  auto problem = [=](const std::string& text) {
    T value = 0;
    const bool fits = ParseNumber(text, value) && value >= least && value <= most;  // NaN is not
    return fits ? std::string() : fmt::format("expected {} {}, found {}", kind, range, text);
  };
  return CLI::Validator(problem, range);
}

int64_t BoundOr(double bound, int64_t none) { return std::isfinite(bound) ? static_cast<int64_t>(bound) : none; }

}  // namespace

void AddThreadsFlag(CLI::App& command) {
  command
      .add_option_function<int>(
          "--threads", [](int n) { SetNumThreads(n); },
          fmt::format("CPU threads (default {}: OMP_NUM_THREADS if set, else the CPUs this process "
                      "may use)",
                      DefaultNumThreads()))
      ->type_name("N")
      ->check(WholeNumber(1, kMostThreads));
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
  return RangeCheck("a whole number", fmt::format("from {} to {}", least, most), least, most);
}

CLI::Validator SeedNumber() {
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  return RangeCheck("a whole number", fmt::format("from 0 to {}", kMost), uint64_t{0}, kMost);
}

CLI::Validator WholeNumberIn(const NumberRange& range) {
  using Limits = std::numeric_limits<int64_t>;
  return WholeNumber(BoundOr(range.min, Limits::min()), BoundOr(range.max, Limits::max()));
}

CLI::Validator NumberIn(const NumberRange& range) {
  auto problem = [range](const std::string& text) -> std::string {
    double value = 0;
    if (!ParseNumber(text, value)) return "expected a number, found " + text;
    try {
      CheckRange("", "value", value, range);
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  return CLI::Validator(problem, "");
}

std::string GivenFlags(const CLI::App& command, const std::vector<std::string>& flags) {
  std::string given;
  for (const std::string& flag : flags) {
    if (command.count(flag) > 0) given += (given.empty() ? "" : ", ") + flag;
  }
  return given;
}

void TakeTextsAsTheyAre(CLI::Option& option) {
  // Brackets mean a list where any number of texts may follow; a large number of them is not "any".
  option.allow_extra_args(false)->expected(1, 1 << 20);
}

void AddTokenizerFlag(CLI::App& command, std::string& tokenizer) {
  command
      .add_option("--tokenizer", tokenizer,
                  "A tokenizer file, a folder or .gguf file that has one, or byte (default: the model's own)")
      ->type_name("FILE|DIR|GGUF");
}

CLI::Option* AddDTypeFlag(CLI::App& command, ComputeType& dtype) {
  return AddEnumFlag(
      command, "--dtype", dtype,
      "Of activations and matrix products; sums and states are f32. auto: bf16 where the CPU has AVX512-BF16 "
      "or AMX and the weights are stored in 16 bits or fewer, else f32, and quantized weights stay as they are "
      "stored (bf16 and f32 decode them first)");
}

CLI::Option* AddKvDTypeFlag(CLI::App& command, KvType& dtype) {
  return AddEnumFlag(command, "--kv-dtype", dtype,
                     "How keys and values of attention are kept: f32, bf16, or int8 with a scale for each token and "
                     "head, a quarter of f32. auto: as they are computed");
}

CLI::Option* AddBenchDTypeFlag(CLI::App& command, ComputeType& dtype) {
  return AddEnumFlag(command, "--dtype", dtype, "Number format of activations and of the weights in products",
                     {"f32", "bf16"});
}

void AddJsonFlag(CLI::App& command, bool& json) {
  command.add_flag("--json", json, "Print JSON alone on standard output");
}

}  // namespace taipan
