#pragma once
// The variable `loop`.

#include <functional>
#include <memory>
#include <vector>

#include "text/jinja/value.h"

namespace taipan::jinja {

class Loop : public Object, public std::enable_shared_from_this<Loop> {
 public:
  // again(call, depth): what loop(...) gives in a recursive loop; null in others.
  Loop(std::vector<Value> elements, int64_t depth, std::function<Value(Call&, int64_t)> again);

  std::string_view type_name() const override { return "LoopContext"; }
  std::optional<std::string> Repr(Context& context) const override;
  std::optional<Value> Attribute(std::string_view name, Context& context) override;
  bool callable() const override { return true; }
  Value Invoke(Call& call) override;
  int depth() const override { return nesting_; }

  size_t size() const { return elements_.size(); }
  const Value& Begin(size_t i) { return elements_[at_ = i]; }
  Value Cycle(Call& call) const;
  Value Changed(Call& call);

 private:
  const std::vector<Value> elements_;
  size_t at_ = 0;
  const int64_t depth_;
  const std::function<Value(Call&, int64_t)> again_;
  std::vector<Value> last_;  // what changed() was asked before
  bool asked_ = false;
  int nesting_ = 1;
};

}  // namespace taipan::jinja
