#pragma once
// Two kinds of failure. CHECK* is for our own bugs and throws InternalError with the values; UserError is for
// the user's files, flags and requests: one line with where, what was expected, what was found, and a hint.

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <vector>

namespace taipan {

class InternalError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

// What is empty is left out of the line. Where something in between is missing, the rest is named:
// UserError({.where = path, .problem = "no such file", .hint = "..."}).
struct Complaint {
  std::string where = {};    // file, flag or request field
  std::string problem = {};  // what is wrong, in words
  std::string expected = {}, found = {}, hint = {};
};

class UserError : public std::runtime_error {
 public:
  explicit UserError(const Complaint& c);
  UserError(const std::string& where, const std::string& problem) : UserError(Complaint{where, problem}) {}
};

// The candidate nearest to `word` by edit distance, or "" where none is close: for "did you mean".
std::string NearestName(const std::string& word, const std::vector<std::string>& candidates);

[[noreturn]] void CheckFailed(const char* file, int line, const std::string& what);

}  // namespace taipan

#define CHECK(cond)                                                  \
  do {                                                               \
    if (!(cond)) [[unlikely]]                                        \
      ::taipan::CheckFailed(__FILE__, __LINE__, "CHECK(" #cond ")"); \
  } while (0)

#define TAIPAN_CHECK_OP(a, b, op)                                                                          \
  do {                                                                                                     \
    const auto& check_a = (a);                                                                             \
    const auto& check_b = (b);                                                                             \
    if (!(check_a op check_b)) [[unlikely]]                                                                \
      ::taipan::CheckFailed(__FILE__, __LINE__,                                                            \
                            fmt::format("CHECK({} {} {}): {} against {}", #a, #op, #b, check_a, check_b)); \
  } while (0)

#define CHECK_EQ(a, b) TAIPAN_CHECK_OP(a, b, ==)
#define CHECK_NE(a, b) TAIPAN_CHECK_OP(a, b, !=)
#define CHECK_LE(a, b) TAIPAN_CHECK_OP(a, b, <=)
#define CHECK_LT(a, b) TAIPAN_CHECK_OP(a, b, <)
#define CHECK_GE(a, b) TAIPAN_CHECK_OP(a, b, >=)
#define CHECK_GT(a, b) TAIPAN_CHECK_OP(a, b, >)
