#include "train/non_finite.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/test_folder.h"
#include "train/test_model.h"

namespace taipan {
namespace {

class NonFiniteTest : public testing::Test {
 protected:
  Weight& Named(const std::string& name) {
    Weight* found = nullptr;
    t_.trainer.model().params().ForEach([&](Weight& w) {
      if (w.spec.name == name) found = &w;
    });
    CHECK(found != nullptr);
    return *found;
  }
  std::string Error() {
    return UserErrorOf([&] { t_.trainer.Step(); });
  }
  TestTraining t_{TestSettings()};
};

// Finite weights whose product is not: the layer is named, with the token.
TEST_F(NonFiniteTest, NamesTheFirstLayerWhoseOutputIsNotFinite) {
  Weight& w = Named("model.layers.1.mixer.out_proj.weight");
  std::fill_n(w.F32(), w.f32.size(), 3e38f);
  const std::string error = Error();
  EXPECT_NE(error.find("the output of layer 1 (mamba2) at token "), std::string::npos) << error;
  EXPECT_NE(error.find(" of sequence 0 (the first that is not finite; all weights are)"), std::string::npos) << error;
}

TEST_F(NonFiniteTest, NamesTheWeightAndWhatItSpoils) {
  Named("model.layers.2.attention.o_proj.weight").F32()[0] = std::numeric_limits<float>::quiet_NaN();
  const std::string error = Error();
  EXPECT_NE(
      error.find("weight model.layers.2.attention.o_proj.weight (the first that is not finite), the output of layer 2 "
                 "(selective_attention)"),
      std::string::npos)
      << error;
}

TEST_F(NonFiniteTest, NamesTheGradientWhereAllOutputsAreFinite) {
  ForwardContext context;
  Batch batch;
  batch.tokens = TestTokens(24);
  batch.segments = {{.begin = 0, .length = 24}};
  EXPECT_EQ(FindNonFinite(t_.trainer.model(), "model.norm.weight", std::span(&batch, 1), GateOptions(), context),
            "gradient of model.norm.weight (the first that is not finite; all outputs of layers are)");
}

}  // namespace
}  // namespace taipan
