#include "kernels/isa.h"

#include <dnnl.h>
#include <hwy/highway.h>

#include <algorithm>

#include "base/error.h"
#include "kernels/tile_bf16.h"

namespace taipan {
namespace {

struct Level {
  const char* name;
  dnnl_cpu_isa_t onednn;
  int64_t above;  // Highway's targets that it forbids
};

#if HWY_ARCH_X86
constexpr int64_t kAboveAvx2 = HWY_AVX3 | HWY_AVX3_DL, kAboveScalar = kAboveAvx2 | HWY_AVX2 | HWY_SSE4 | HWY_SSSE3;
constexpr Level kLevels[] = {{"scalar", dnnl_cpu_isa_sse41, kAboveScalar},
                             {"avx2", dnnl_cpu_isa_avx2, kAboveAvx2},
                             {"avx512", dnnl_cpu_isa_avx512_core_vnni, 0},
                             {"avx512_bf16", dnnl_cpu_isa_avx512_core_bf16, 0}};

// What oneDNN must report for a CPU to have the level.
bool Has(const Level& level) { return level.above == kAboveScalar || dnnl_get_effective_cpu_isa() >= level.onednn; }
#else
constexpr Level kLevels[] = {};
bool Has(const Level&) { return true; }
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
    // Asking oneDNN what it has fixes what it uses, so the limit comes first.
    const dnnl_status_t status = dnnl_set_max_cpu_isa(level.onednn);
    if (status != dnnl_success || !Has(level)) {
      throw UserError({where, "this CPU does not have the instruction set, or it is too late to choose",
                       "one of those it has", name, "leave it out: the best one is used"});
    }
    hwy::DisableTargets(level.above);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    AllowBF16Instructions(level.onednn >= dnnl_cpu_isa_avx512_core_bf16);
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
  const dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
  if (isa > dnnl_cpu_isa_avx512_core_bf16) return "amx";
  if (best.starts_with("AVX3")) return UsesBF16Instructions() ? "avx512_bf16" : "avx512";
  if (best == "AVX2") return "avx2";
  return "scalar";
#else
  return best;
#endif
}

}  // namespace taipan
