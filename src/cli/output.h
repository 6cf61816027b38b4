#pragma once
// What commands share: results on stdout, everything else on stderr; tables; the flags every command has.

#include <CLI/CLI.hpp>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace taipan {

using OrderedJson = nlohmann::ordered_json;

// Results. UserError where stdout cannot be written (a full disk).
void Print(std::string_view text);
void PrintJson(const OrderedJson& value);  // one line
void FlushOutput();
// Remarks and warnings for the reader of the terminal: one line on stderr.
void Note(std::string_view line);

// Columns padded with spaces; numbers (cells that begin with a digit, '-' or '.') to the right, the rest to the left.
std::string FormatTable(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows);
std::string FormatCount(int64_t n);     // "1,234,567"
std::string FormatBytes(double bytes);  // "1.25 GiB"
std::string FormatShares(const std::vector<double>& shares);  // "0.15 0.18 0.12"

// --threads N, acting at once.
void AddThreadsFlag(CLI::App& command);
void AddJsonFlag(CLI::App& command, bool& json);

int64_t PeakResidentBytes();  // of this process so far

}  // namespace taipan
