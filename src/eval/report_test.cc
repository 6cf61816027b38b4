#include "eval/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace taipan {
namespace {

using testing::HasSubstr;

TEST(EvalReport, PageAndChart) {
  const nlohmann::ordered_json report = {
      {"model", "a <b>&model"},
      {"limit", nullptr},
      {"tasks",
       {{{"task", "piqa"},
         {"items", 3},
         {"asked", 4},
         {"acc", 0.75},
         {"acc_stderr", 0.01},
         {"chance", 0.5},
         {"cut_items", 2}},
        {{"task", "passkey"},
         {"items", 2},
         {"asked", 2},
         {"found", 0.5},
         {"cut_items", 0},
         {"cells",
          {{{"length", 1024}, {"depth", 0}, {"items", 1}, {"found", 1.0}},
           {{"length", 2048}, {"depth", 0.5}, {"items", 1}, {"found", 0.0}},
           {{"length", 2048}, {"depth", 0}, {"items", 0}}}}},
        {{"task", "mqar"},
         {"items", 1},
         {"asked", 1},
         {"acc", 0.25},
         {"cut_items", 0},
         {"cells", {{{"length", 64}, {"pairs", 4}, {"state_bytes", 4096}, {"items", 1}, {"acc", 0.25}}}}},
        {{"task", "empty"}, {"items", 0}, {"asked", 9}, {"cut_items", 0}}}}};
  const std::string page = EvalPage(report);
  EXPECT_THAT(page, HasSubstr("a &lt;b&gt;&amp;model"));
  EXPECT_THAT(page, testing::Not(HasSubstr("<b>")));
  EXPECT_THAT(page, HasSubstr("<td>3 of 4</td><td>0.7500 &plusmn; 0.0100</td>"));
  EXPECT_THAT(page, HasSubstr("<th>1K</th><th>2K</th>"));
  EXPECT_THAT(page, HasSubstr(">1.00</td>"));
  EXPECT_THAT(page, HasSubstr("<td>64</td><td>4</td><td>4096</td>"));
  EXPECT_THAT(page, HasSubstr("<td>0 of 9</td><td>-</td>"));
  EXPECT_THAT(page, HasSubstr("</html>"));
  const std::string svg = EvalSvg(report);
  EXPECT_THAT(svg, HasSubstr("piqa"));
  EXPECT_THAT(svg, testing::Not(HasSubstr("empty")));  // nothing to draw
}

}  // namespace
}  // namespace taipan
