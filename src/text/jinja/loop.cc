#include "text/jinja/loop.h"

#include <algorithm>

#include "base/error.h"

namespace taipan::jinja {
namespace {

class LoopMethod : public Object {
 public:
  LoopMethod(std::shared_ptr<Loop> loop, bool cycle) : loop_(std::move(loop)), cycle_(cycle) {}
  std::string_view type_name() const override { return "method"; }
  bool callable() const override { return true; }
  int depth() const override { return 1 + loop_->depth(); }
  Value Invoke(Call& call) override { return cycle_ ? loop_->Cycle(call) : loop_->Changed(call); }

 private:
  std::shared_ptr<Loop> loop_;
  bool cycle_;
};

}  // namespace

Loop::Loop(std::vector<Value> elements, int64_t depth, std::function<Value(Call&, int64_t)> again)
    : elements_(std::move(elements)), depth_(depth), again_(std::move(again)) {
  for (const Value& element : elements_) nesting_ = std::max(nesting_, 1 + element.depth());
}

std::optional<std::string> Loop::Repr(Context&) const {
  return fmt::format("<LoopContext {}/{}>", at_ + 1, elements_.size());
}

std::optional<Value> Loop::Attribute(std::string_view name, Context&) {
  const auto i = static_cast<int64_t>(at_), size = static_cast<int64_t>(elements_.size());
  if (name == "index") return Value(i + 1);
  if (name == "index0") return Value(i);
  if (name == "revindex") return Value(size - i);
  if (name == "revindex0") return Value(size - i - 1);
  if (name == "first") return Value(i == 0);
  if (name == "last") return Value(i + 1 == size);
  if (name == "length") return Value(size);
  if (name == "depth") return Value(depth_ + 1);
  if (name == "depth0") return Value(depth_);
  if (name == "previtem") return i > 0 ? elements_[at_ - 1] : Value::MakeUndefined("there is no previous item");
  if (name == "nextitem") return i + 1 < size ? elements_[at_ + 1] : Value::MakeUndefined("there is no next item");
  if (name != "cycle" && name != "changed") return std::nullopt;
  return Value(ObjectPtr(std::make_shared<LoopMethod>(shared_from_this(), name == "cycle")));
}

Value Loop::Invoke(Call& call) {
  if (!again_) call.context.Refuse("the loop must have the 'recursive' marker to be called");
  return again_(call, depth_ + 1);
}

Value Loop::Cycle(Call& call) const {
  if (call.positional.empty()) call.context.Refuse("no items for cycling given");
  return call.positional[at_ % call.positional.size()];
}

Value Loop::Changed(Call& call) {
  bool same = asked_ && last_.size() == call.positional.size();
  for (size_t i = 0; same && i < last_.size(); ++i) same = Equal(last_[i], call.positional[i], call.context);
  asked_ = true;
  for (const Value& value : call.positional) nesting_ = std::max(nesting_, 1 + value.depth());
  if (nesting_ > kMaxNesting) call.context.Refuse("lists, dicts or loops nested too deeply");
  last_ = call.positional;
  return Value(!same);
}

}  // namespace taipan::jinja
