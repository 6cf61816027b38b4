#pragma once
// What commands share: results on stdout, everything else on stderr; tables.

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/progress.h"

namespace taipan {

using OrderedJson = nlohmann::ordered_json;

// Gives each of the descriptors 0 to 2 that is closed something to name. Else the next file that is opened would be
// standard error, and messages would go into it. Reading and writing fail as before; messages are lost.
void OpenStandardStreams();

// Results. Where stdout cannot be written (a full disk, a closed pipe) the rest of the work is done and saved, and
// FlushOutput, which main calls at the end, throws the UserError.
void Print(std::string_view text);
void PrintJson(const OrderedJson& value);  // one line
void FlushOutput();
bool OutputWorks();  // flushes; for work that is of no use without it
// Remarks and warnings for the reader of the terminal: one line on stderr.
void Note(std::string_view line);

struct Column {
  std::string name;
  bool text = false;  // to the left; numbers go to the right
};
std::string FormatTable(const std::vector<Column>& columns, const std::vector<std::vector<std::string>>& rows);
std::string FormatExact(int64_t n);                           // "1,234,567"
std::string FormatShares(const std::vector<double>& shares);  // "0.150 0.182 0.121"

// A live count on stderr, for work that turns out to take more than a second.
class CountProgress {
 public:
  // total 0: not known.
  CountProgress(std::string what, int64_t total, std::string unit = "tokens");
  void Update(int64_t done);
  void Expect(int64_t total) { total_ = total; }  // a better guess
  void Finish();

 private:
  std::string what_, unit_;
  int64_t total_;
  std::chrono::steady_clock::time_point start_;
  ProgressLine line_;
};

}  // namespace taipan
