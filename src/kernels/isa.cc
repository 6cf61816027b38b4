#include "kernels/isa.h"

#include <hwy/highway.h>

#include <algorithm>

#include "base/error.h"
#include "kernels/gemm/gemm_tile.h"
#include "kernels/gemm/tile_bf16.h"

namespace taipan {
namespace {

struct Level {
  const char* name;
  ProductIsa products;
  int64_t above;  // Highway's targets that it forbids
};

#if HWY_ARCH_X86
constexpr int64_t kAboveAvx2 = HWY_AVX3 | HWY_AVX3_DL, kAboveScalar = kAboveAvx2 | HWY_AVX2 | HWY_SSE4 | HWY_SSSE3;
constexpr Level kLevels[] = {{"scalar", ProductIsa::kSse, kAboveScalar},
                             {"avx2", ProductIsa::kAvx2, kAboveAvx2},
                             {"avx512", ProductIsa::kAvx512, 0},
                             {"avx512_bf16", ProductIsa::kAvx512BF16, 0}};
#else
constexpr Level kLevels[] = {{"scalar", ProductIsa::kOther, 0}};
#endif

}  // namespace

std::vector<std::string> IsaNames() {
  std::vector<std::string> names;
  for (const Level& level : kLevels) names.push_back(level.name);
  names.push_back("native");
  return names;
}

void LimitIsa(const std::string& name, const std::string& where) {
  if (name == "native") return;
  for (const Level& level : kLevels) {
    if (name != level.name) continue;
    if (!LimitProductIsa(level.products)) {
      throw UserError({where, "this CPU does not have the instruction set, or it is too late to choose",
                       "one of those it has", name, "leave it out: the best one is used"});
    }
    hwy::DisableTargets(level.above);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    AllowBF16Instructions(level.products >= ProductIsa::kAvx512BF16);
    AllowAmxInstructions(level.products >= ProductIsa::kAmx);
    return;
  }
  std::string names;
  for (const std::string& known : IsaNames()) names += names.empty() ? known : ", " + known;
  const std::string nearest = NearestName(name, IsaNames());
  throw UserError(
      {where, "unknown instruction set", names, name, nearest.empty() ? "" : fmt::format("did you mean {}?", nearest)});
}

std::string ActiveIsa() {
  const int64_t targets = hwy::SupportedTargets() & (HWY_TARGETS);
  const std::string best = hwy::TargetName(targets & -targets);
#if HWY_ARCH_X86
  if (ActiveProductIsa() == ProductIsa::kAmx) return "amx";
  if (best.starts_with("AVX3")) return UsesBF16Instructions() ? "avx512_bf16" : "avx512";
  if (best == "AVX2") return "avx2";
  return "scalar";
#else
  return best;
#endif
}

}  // namespace taipan
